"""The size of a workbook in memory. calamine stores a sheet as a rectangle with all empty cells, so that two cells at opposite corners, in a file
of one kilobyte, become 17 billion cells."""

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tasks.io.sources.formats import binary_workbook
from tasks.io.sources.record import UnreadableError, first_line

MAX_BYTES = 1 << 30
"""Largest number of bytes of all parts of a workbook, decompressed."""
MAX_CELLS = 1 << 25
"""Largest number of cells in a sheet's rectangle, of about 50 bytes each."""
BLOCK = 1 << 20
CELL = re.compile(rb"""<(?:\w+:)?(?:c|row)\s[^<]*?\br=["']([A-Za-z]{0,3})([0-9]{1,7})["']""")
"""Matches the position of a cell or row in an Excel sheet."""
COUNTED = re.compile(rb"<(?:\w+:)?(?:c|row|table|table-row|table-cell|covered-table-cell)\s")
"""Matches the beginning of a relevant tag."""
ODS_TAG = re.compile(rb"<table:(table|table-row|table-cell|covered-table-cell)(?=[\s/>])([^<]*)")
ODS_REPEATED = re.compile(rb"""number-(?:rows|columns)-repeated=["']([0-9]{1,9})["']""")


def check(path: Path, name: str) -> None:
    """Raise UnreadableError if a workbook is too large for memory, by its actual number of bytes or by the rectangle of a sheet.

    The cells of an xls are not counted: it has at most 17 million, and a damaged one is read in a separate process.
    """
    if not zipfile.is_zipfile(path):
        return
    room = MAX_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                room = _check_part(_Part(archive, info, room), name)
            for info in archive.infolist():
                if info.filename.startswith(binary_workbook.SHEETS) and info.filename.endswith(".bin"):
                    with archive.open(info) as sheet:
                        _check_cells(binary_workbook.num_cells(sheet), name)
    except UnreadableError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, ValueError, RuntimeError, EOFError, OSError) as error:
        raise UnreadableError(f"{name}: this is no workbook: {first_line(error)}") from None


def _check_part(part: "_Part", name: str) -> int:
    """Return the number of bytes that remain for further parts. Raises UnreadableError like `check`."""
    sheet: _Sheet = _OpenDocumentSheet() if part.name == "content.xml" else _Sheet()
    for block in part.blocks():
        sheet.add(block)
        _check_cells(sheet.num_cells, name)
    if part.room < 0:
        raise UnreadableError(
            f"{name}: its parts take more than {MAX_BYTES:,} bytes when decompressed, which is the most that is read. Save it as CSV."
        )
    return part.room


def _check_cells(number: int, name: str) -> None:
    if number > MAX_CELLS:
        raise UnreadableError(
            f"{name}: a sheet spans {number:,} cells, empty ones included; at most {MAX_CELLS:,} are read. "
            "Remove what stands far from the table, or save it as CSV."
        )


class _Part:
    """A part of a workbook, decompressed until `room` is used up. The size stated in the archive is not trusted."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: int) -> None:
        self._archive, self._info, self.room = archive, info, room
        self.name = info.filename

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes in blocks that end before a tag, so that no tag is cut."""
        rest = b""
        for block in self._read():
            head, mark, tail = (rest + block).rpartition(b"<")
            yield head
            rest = mark + tail
            if len(rest) > BLOCK:  # a long text, or a part that is not XML
                if COUNTED.match(rest):
                    raise UnreadableError(f"{self.name} has a tag of more than {BLOCK:,} bytes")
                yield rest
                rest = b""
        yield rest

    def _read(self) -> Iterator[bytes]:
        self._info.file_size = 1 << 62  # zipfile would stop at the stated size
        with self._archive.open(self._info) as member:
            while self.room >= 0 and (block := member.read(BLOCK)):
                self.room -= len(block)
                yield block


class _Sheet:
    """The rectangle of an Excel sheet's cells."""

    def __init__(self) -> None:
        self._columns: set[bytes] = set()
        self._rows: list[int] = []

    @property
    def num_cells(self) -> int:
        """Return the number of cells in the rectangle."""
        if not self._rows:
            return 0
        columns = [number for letters in self._columns if (number := _column(letters))] or [1]
        return (max(self._rows) - min(self._rows) + 1) * (max(columns) - min(columns) + 1)

    def add(self, block: bytes) -> None:
        """Add cells."""
        places = CELL.findall(block)
        if places:
            rows = {int(row) for _, row in places}
            self._columns.update(letters for letters, _ in places)
            self._rows = [min([*self._rows, *rows]), max([*self._rows, *rows])]


class _OpenDocumentSheet(_Sheet):
    """The rectangle of the largest sheet of an OpenDocument file, in which repeated rows and cells are stored once with a count."""

    def __init__(self) -> None:
        super().__init__()
        self._most = self._height = self._width = 0
        self._row = self._column = 0

    @property
    def num_cells(self) -> int:
        """Return the number of cells in the rectangle."""
        return max(self._most, self._height * self._width)

    def add(self, block: bytes) -> None:
        """Add rows and cells. Empty ones count only if one with contents follows."""
        for tag, attributes in ODS_TAG.findall(block):
            repeated = ODS_REPEATED.search(attributes)
            number = int(repeated[1]) if repeated else 1
            if tag == b"table":
                self._most = self.num_cells
                self._row = self._column = self._height = self._width = 0
            elif tag == b"table-row":
                self._row, self._column = self._row + number, 0
            else:
                self._column += number
                if b"office:value" in attributes or not attributes.rstrip().endswith(b"/>"):
                    self._height, self._width = self._row, max(self._width, self._column)


def _column(letters: bytes) -> int:
    """Return the number of a column: 1 for A, 27 for AA."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - ord("A") + 1
    return number
