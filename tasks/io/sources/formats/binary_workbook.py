"""Workbooks of Excel's binary formats, xls and xlsb, read in a separate process.

calamine trusts the sizes stated in such a file. A damaged file makes it panic, or allocate more memory than available, which ends the process.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import polars as pl

from tasks.io.sources.record import first_line

COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""The first bytes of an xls: a compound file."""
BOOK, SHEETS = "xl/workbook.bin", "xl/worksheets/"
"""The parts of an xlsb."""
NAMES = "names.json"
MEMORY = 8 << 30
"""Largest address space of the process in bytes."""
BLOCK = 1 << 20
ROW, CELLS, END_OF_SHEET = 0, range(2, 12), 130
"""Kinds of records in a sheet of an xlsb ([MS-XLSB] 2.3.2). Cells without a value are left out."""
Sheets = tuple[Sequence[str], Callable[[int], pl.DataFrame]]
"""The names of sheets, and a function that returns the cells of a sheet by its index. The first row names the columns."""


def is_binary(path: Path) -> bool:
    """Return True for an xls or xlsb."""
    with path.open("rb") as file:
        if file.read(len(COMPOUND)) == COMPOUND:
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return BOOK in archive.namelist()


class UnreadError(Exception):
    """Raised if the process that read a workbook ended without the cells. The message gives the reason."""


@contextmanager
def opened(path: Path) -> Iterator[Sheets]:
    """Yield the sheets of a workbook. Raises UnreadError with the reason if the reading process ended."""
    with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
        quiet = os.environ | {"RUST_BACKTRACE": "0"}
        command = [sys.executable, "-m", __name__, str(path.resolve()), folder]
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"the process that read it ended with {done.returncode}"]
            raise UnreadError(said[-1])
        yield (
            json.loads((Path(folder) / NAMES).read_bytes()),
            lambda place: pl.read_ipc(Path(folder) / f"{place}.arrow"),
        )


def num_cells(sheet: IO[bytes]) -> int:
    """Return the number of cells in the rectangle of an xlsb sheet. Raises ValueError if the sheet is cut off."""
    rows, columns, row, kind = set(), set(), 0, None
    for kind, number in _records(io.BufferedReader(cast("io.RawIOBase", sheet), BLOCK)):
        if kind == ROW:
            row = number
        elif kind in CELLS:
            rows.add(row)
            columns.add(number)
    if kind != END_OF_SHEET:
        raise ValueError("a sheet breaks off")
    return (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1) if rows else 0


def _records(sheet: io.BufferedReader) -> Iterator[tuple[int, int]]:
    """Yield the kind of each record and its first number. Kinds and sizes are stored in groups of seven bits, the lowest first."""
    while sheet.peek(1):
        kind, size = _sevens(sheet, 2), _sevens(sheet, 4)
        data = sheet.read(size)
        if len(data) < size:
            raise ValueError("a record breaks off")
        yield kind, int.from_bytes(data[:4], "little")


def _sevens(stream: io.BufferedReader, most: int) -> int:
    number = 0
    for place in range(most):
        byte = stream.read(1)
        if not byte:
            raise ValueError("a record breaks off")
        number |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            break
    return number


def _write(path: str, folder: str) -> None:
    """Write the cells of each sheet to an Arrow file, and the names of sheets to another file."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # systems without this limit have their own
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import fastexcel

    workbook = fastexcel.read_excel(path)
    for number, name in enumerate(workbook.sheet_names):
        workbook.load_sheet(name, dtypes="string").to_polars().write_ipc(Path(folder) / f"{number}.arrow")
    (Path(folder) / NAMES).write_text(json.dumps(workbook.sheet_names), encoding="utf-8")


if __name__ == "__main__":
    try:
        _write(*sys.argv[1:])
    except BaseException as error:  # a Rust panic is not an Exception
        sys.exit(first_line(error))
