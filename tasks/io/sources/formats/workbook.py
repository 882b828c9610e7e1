"""Sheets of an Excel or OpenDocument workbook, by calamine (extra `excel`)."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from xml.parsers import expat

import polars as pl

from tasks.io.sources.containers.archives import Entry
from tasks.io.sources.formats import binary_workbook, headers, workbook_size
from tasks.io.sources.record import Broken, Record, Row, UnreadableError, first_line

UNNAMED = re.compile(r"(?:__UNNAMED__\d+|_\d+|\s*)")
"""The names that fastexcel gives to columns with an empty first cell."""
REPEATED = re.compile(r"_\d+$")
"""What fastexcel adds to the name of a column whose first cell repeats an earlier one."""


def read(entry: Entry, header: bool | None = None) -> Iterator[Record]:
    """Yield the rows of every sheet, with cells as text. The first row of a sheet, or the one below its titles, names the columns, unless it is a
    record. Blank rows are skipped.

    `header` says whether a row names the columns; with None, this is detected.
    """
    try:
        import fastexcel
    except ImportError:
        raise UnreadableError(
            f'{entry.name}: Excel files need the extra `excel`: pip install "ratchet-llm[excel]"'
        ) from None
    with entry.on_disk() as path:
        workbook_size.check(path, entry.name)
        opened = binary_workbook.opened if binary_workbook.is_binary(path) else _opened
        try:
            with opened(path) as (names, load):
                for place, name in enumerate(names):
                    many = f"sheet {name!r}, " if len(names) > 1 else ""
                    for number, values in enumerate(*_below_header(load(place), header)):
                        if any(value is not None for value in values.values()):
                            yield Row(f"{many}row {number}", values)
            yield from _damage(path)
        except (fastexcel.FastExcelError, binary_workbook.UnreadError) as error:
            raise UnreadableError(f"{entry.name}: this is no workbook: {first_line(error)}") from None


def _below_header(sheet: pl.DataFrame, header: bool | None) -> tuple[Iterator[dict[str, str | None]], int]:
    """Return the rows below the header of a sheet, which may have titles above it or be missing, and the number of the first row."""
    first = _first_row(sheet.columns)
    examined = [first, *sheet.head(headers.EXAMINED).rows()]
    titles = 0 if header is False else headers.num_titles(examined)
    if header is False or (header is None and not titles and headers.is_record(examined)):
        columns = headers.numbered(sheet.width)
        rows = chain([[cell or None for cell in first]], sheet.iter_rows())
        return (dict(zip(columns, row, strict=True)) for row in rows), 1
    if not titles:
        return sheet.iter_rows(named=True), 2
    width = sheet.width
    names = headers.names([cell or "" for cell in sheet.row(titles - 1)])
    names += tuple(f"column {number}" for number in range(len(names) + 1, width + 1))
    below = sheet[titles:]
    below.columns = names
    return below.iter_rows(named=True), titles + 2


def _first_row(names: Sequence[str]) -> list[str]:
    """Return the cells of the first row from the columns' names, to which fastexcel adds a number where a cell repeats an earlier one."""
    cells = ["" if UNNAMED.fullmatch(name) else name for name in names]
    return [base if (base := REPEATED.sub("", cell)) in cells[:place] else cell for place, cell in enumerate(cells)]


@contextmanager
def _opened(path: Path) -> Iterator[binary_workbook.Sheets]:
    import fastexcel

    workbook = fastexcel.read_excel(path)
    yield workbook.sheet_names, lambda place: workbook.load_sheet(place, dtypes="string").to_polars()


def _damage(path: Path) -> Iterator[Broken]:
    """Yield a record for each part of a workbook whose XML is cut off or malformed, because calamine silently returns only the part before it."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".xml"):
                try:
                    with archive.open(info) as part:
                        expat.ParserCreate().ParseFile(part)
                except (expat.ExpatError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
                    yield Broken(f"in {info.filename}", "damaged file", first_line(error), "")
