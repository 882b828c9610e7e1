"""Workbooks of Excel's two binary formats, xls and xlsb, with rows of text: no kept library writes both. For `damaged_files`.

[MS-XLS], [MS-CFB] and [MS-XLSB] of Microsoft's open specifications; only what a reader of texts needs.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

SECTOR = 512
END, FAT, FREE = 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF
"""Numbers of a sector table (FAT) that name no next sector: the last of a chain, a sector of the table itself, a free one."""
RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
SHEET = "application/vnd.ms-excel"

Lines = Sequence[Sequence[str]]


def xls(lines: Lines) -> bytes:
    """Return a workbook of Excel 97 with one sheet, its cells as texts."""
    sheet = [_biff(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0))]
    sheet.append(_biff(0x0200, struct.pack("<IIHHH", 0, len(lines), 0, max(map(len, lines)), 0)))
    for row, line in enumerate(lines):
        for column, text in enumerate(line):
            cell = struct.pack("<HHHHB", row, column, 0, len(text.encode("utf-16-le")) // 2, 1)
            sheet.append(_biff(0x0204, cell + text.encode("utf-16-le")))
    sheet.append(_biff(0x000A, b""))
    start = _biff(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0))
    start += _biff(0x0042, struct.pack("<H", 1200))  # UTF-16
    named = struct.pack("<BB", 1, 0) + b"S"
    place = len(start) + 4 + 6 + len(named) + 4  # behind the record that says so and the end of the first part
    start += _biff(0x0085, struct.pack("<IBB", place, 0, 0) + named) + _biff(0x000A, b"")
    return _compound("Workbook", start + b"".join(sheet))


def _biff(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def _compound(name: str, stream: bytes) -> bytes:
    """Return a compound file with one stream, which is at least 4,096 bytes long so that it has sectors of its own."""
    stream = stream.ljust(4096, b"\0")
    sectors = -(-len(stream) // SECTOR)
    tables = 1
    while tables * SECTOR // 4 < sectors + tables + 1:
        tables += 1
    first = tables + 1  # after the table and the directory
    numbers = [FAT] * tables + [END] + [*range(first + 1, first + sectors), END]
    numbers += [FREE] * (tables * SECTOR // 4 - len(numbers))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6xIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, tables, tables, 0)
    header += struct.pack("<IIIII", 4096, END, 0, END, 0)
    header += struct.pack("<109I", *range(tables), *[FREE] * (109 - tables))
    entries = [_entry("Root Entry", 5, END, 0, child=1), _entry(name, 2, first, len(stream), child=FREE)]
    directory = b"".join(entries) + bytes(SECTOR - 128 * len(entries))
    table = struct.pack(f"<{len(numbers)}I", *numbers)
    return header + table + directory + stream.ljust(sectors * SECTOR, b"\0")


def _entry(name: str, kind: int, start: int, size: int, *, child: int) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    entry = text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text), kind, 1, FREE, FREE, child)
    return entry + bytes(36) + struct.pack("<IQ", start, size)


def xlsb_parts(lines: Lines) -> Mapping[str, bytes]:
    """Return the parts of a binary workbook with one sheet, its cells as texts."""
    overrides = {
        "/xl/workbook.bin": f"{SHEET}.sheet.binary.macroEnabled.main",
        "/xl/worksheets/sheet1.bin": f"{SHEET}.worksheet",
    }
    typed = "".join(f'<Override PartName="{part}" ContentType="{kind}"/>' for part, kind in overrides.items())
    rels = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    bundle = struct.pack("<II", 0, 1) + _wide("r1") + _wide("S")
    book = [(131, b""), (143, b""), (156, bundle), (144, b""), (132, b"")]
    return {
        "[Content_Types].xml": f'<Types xmlns="{TYPES}">{rels}{typed}</Types>'.encode(),
        "_rels/.rels": _relation(f"{OFFICE}/officeDocument", "xl/workbook.bin"),
        "xl/workbook.bin": b"".join(_record(kind, data) for kind, data in book),
        "xl/_rels/workbook.bin.rels": _relation(f"{OFFICE}/worksheet", "worksheets/sheet1.bin"),
        "xl/worksheets/sheet1.bin": b"".join(_record(kind, data) for kind, data in _sheet(lines)),
    }


def _sheet(lines: Lines) -> Iterator[tuple[int, bytes]]:
    yield 129, b""
    yield 148, struct.pack("<IIII", 0, len(lines) - 1, 0, max(map(len, lines)) - 1)
    yield 145, b""
    for row, line in enumerate(lines):
        yield 0, struct.pack("<IIHBBBI", row, 0, 300, 0, 0, 0, 0)
        for column, text in enumerate(line):
            yield 6, struct.pack("<II", column, 0) + _wide(text)
    yield 146, b""
    yield 130, b""


def _record(kind: int, data: bytes) -> bytes:
    return _variable(kind) + _variable(len(data)) + data


def _variable(number: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    parts = []
    while True:
        number, low = number >> 7, number & 0x7F
        parts.append(low | (0x80 if number else 0))
        if not number:
            return bytes(parts)


def _wide(text: str) -> bytes:
    data = text.encode("utf-16-le")
    return struct.pack("<I", len(data) // 2) + data


def _relation(kind: str, target: str) -> bytes:
    relation = f'<Relationship Id="r1" Type="{kind}" Target="{target}"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="{RELATIONSHIPS}">{relation}</Relationships>'.encode()
