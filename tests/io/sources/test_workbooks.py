"""Workbooks that would be too large for memory are refused by name, whatever sizes they state; stray cells and empty rows are no harm."""

import io
import struct
import zipfile

import pytest

from benchmarks import binary_workbooks, damaged_files
from tasks.io.sources import table
from tasks.io.sources.formats import workbook_size
from tasks.io.sources.record import UnreadableError
from tests.io.sources import strangers

FAR = '<row><c x="%s" r="XFD1048576" t="inlineStr"><is><t>x</t></is></c></row></sheetData>'
ROWS = [["q", "a"], *([f"What is {n}?", str(n)] for n in range(200))]


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return [tuple(record.values.values()) for record in table.rows(tmp_path / name)]


def sheet(*cells):
    """A sheet with a text at each of these places."""
    rows = "".join(f'<row><c r="{place}" t="inlineStr"><is><t>x</t></is></c></row>' for place in cells)
    return f"<sheetData>{rows}</sheetData>"


def stating(data, member, size):
    """A zip archive that states another size of a member than it has."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        true = struct.pack("<I", archive.getinfo(member).file_size)
    assert data.count(true) == 2  # beside the member, and in the directory at the end
    return data.replace(true, struct.pack("<I", size))


@pytest.mark.parametrize("name", ["a.xlsx", "a.ods"])
def test_a_bomb_is_refused_by_its_bytes_whatever_it_states(tmp_path, monkeypatch, name):
    member = {"a.xlsx": "xl/worksheets/a.xml", "a.ods": "content.xml"}[name]
    data = {"a.xlsx": strangers.workbook, "a.ods": strangers.open_document}[name](ROWS)
    assert len(read(tmp_path, name, data)) == 200
    monkeypatch.setattr(workbook_size, "MAX_BYTES", 10_000)
    for archive in (data, stating(data, member, 100)):
        with pytest.raises(UnreadableError, match=rf"{name}: its parts take more than 10,000 bytes .* Save it as CSV"):
            read(tmp_path, name, archive)


@pytest.mark.parametrize("name", ["a.xlsx", "a.ods"])
def test_entities_that_grow_without_end_are_refused(tmp_path, name):
    grown = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
    declared = f'<!DOCTYPE b [<!ENTITY a0 "{"a" * 1000}">{grown}]>'
    data = io.BytesIO()
    plain = {"a.xlsx": strangers.workbook, "a.ods": strangers.open_document}[name]([["q", "a"], ["&a8;", "b"]])
    with zipfile.ZipFile(io.BytesIO(plain)) as source, zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in source.namelist():
            text = source.read(member).decode()
            bomb.writestr(member, declared + text if "&a8;" in text else text)
    with pytest.raises(UnreadableError, match=rf"{name}: this is no workbook: .*unrecognized entity"):
        read(tmp_path, name, data.getvalue())


@pytest.mark.parametrize("cells", [("A1", "XFD1048576"), ("XFD1048576", "A1"), ("A1", "B2", "AX1048576")])
def test_cells_far_apart_are_refused_before_a_rectangle_is_made_of_them(tmp_path, cells):
    with pytest.raises(UnreadableError, match=r"a\.xlsx: a sheet spans [0-9,]+ cells.*far from the table"):
        read(tmp_path, "a.xlsx", strangers.workbook_of(sheet(*cells)))


def test_cells_of_a_block_and_the_next_are_one_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook_size, "BLOCK", 64)
    with pytest.raises(UnreadableError, match=r"spans 17,179,869,184 cells"):
        read(tmp_path, "a.xlsx", strangers.workbook_of(sheet("A1", *(f"B{n}" for n in range(2, 40)), "XFD1048576")))


def test_a_place_cannot_hide_behind_other_attributes(tmp_path, monkeypatch):
    with pytest.raises(UnreadableError, match=r"spans 17,179,869,184 cells"):
        read(tmp_path, "a.xlsx", strangers.workbook_of(sheet("A1").replace("</sheetData>", FAR % ">")))
    monkeypatch.setattr(workbook_size, "BLOCK", 1_000)
    with pytest.raises(UnreadableError, match=r"a tag of more than 1,000 bytes"):
        read(tmp_path, "a.xlsx", strangers.workbook_of(sheet("A1").replace("</sheetData>", FAR % ("y" * 3_000))))


def test_repeated_rows_of_open_document_are_refused_if_they_hold_anything(tmp_path):
    rows = 'table:number-rows-repeated="1048575"'
    wide = [["q", "a"], ["x"] * 50]
    with pytest.raises(UnreadableError, match=r"a\.ods: a sheet spans 52,428,800 cells"):
        read(tmp_path, "a.ods", strangers.open_document(wide, rows))
    data = strangers.open_document([*ROWS, []], rows)  # empty to the end, as LibreOffice writes it
    assert len(read(tmp_path, "a.ods", data)) == 200


def test_text_that_looks_like_a_cell_is_none(tmp_path):
    rows = [["q", "a"], ['c r="XFD1048576"', "&lt;c r='XFD1048576'&gt;"]]
    assert read(tmp_path, "a.xlsx", strangers.workbook(rows)) == [('c r="XFD1048576"', "<c r='XFD1048576'>")]


BINARY = {
    "a.xls": binary_workbooks.xls,
    "a.xlsb": lambda lines: damaged_files.zipped(binary_workbooks.xlsb_parts(lines)),
}


@pytest.mark.parametrize("name", BINARY)
def test_the_rows_of_binary_workbooks_are_read(tmp_path, name):
    lines = [["q", "a"], *([f"What is {n}, née „{n}“?", f"It is {n}."] for n in range(200))]
    assert read(tmp_path, name, BINARY[name](lines)) == [tuple(line) for line in lines[1:]]


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_workbook_on_which_its_reader_dies_is_named(tmp_path, monkeypatch, name):
    """`fastexcel` is one that panics, or asks for too much memory, whatever the file."""
    die = "import ctypes, os\n\n\ndef read_excel(path):\n    os.write(2, b'note: one\\nmemory allocation of 9 bytes failed\\n')\n    os.abort()\n"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/fastexcel.py").write_text(die)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(UnreadableError, match=rf"{name}: this is no workbook: memory allocation of 9 bytes failed"):
        read(tmp_path, name, BINARY[name](ROWS))


def test_a_panic_of_the_reader_is_named(tmp_path):
    data = binary_workbooks.xls(ROWS)[: 2 * 512 + 49]  # within the directory, which calamine cuts into entries unseen
    with pytest.raises(UnreadableError, match=r"a\.xls: this is no workbook: range end index 64 out of range"):
        read(tmp_path, "a.xls", data)


def test_an_xlsb_whose_cells_are_far_apart_is_refused_before_a_rectangle_is_made_of_them(tmp_path):
    parts = binary_workbooks.xlsb_parts(ROWS)
    sheet = "xl/worksheets/sheet1.bin"
    last_row = struct.pack("<IIHBBBI", 200, 0, 300, 0, 0, 0, 0)
    assert parts[sheet].count(last_row) == 1
    far = parts[sheet].replace(last_row, struct.pack("<I", 1 << 25) + last_row[4:])
    with pytest.raises(UnreadableError, match=r"a\.xlsb: a sheet spans 67,108,866 cells.*far from the table"):
        read(tmp_path, "a.xlsb", damaged_files.zipped({**parts, sheet: far}))


@pytest.mark.parametrize("kept", [-2, -3, 1_000])
def test_an_xlsb_whose_sheet_breaks_off_is_refused(tmp_path, kept):
    parts = binary_workbooks.xlsb_parts(ROWS)
    sheet = "xl/worksheets/sheet1.bin"
    with pytest.raises(UnreadableError, match=r"a\.xlsb: this is no workbook: a (sheet|record) breaks off"):
        read(tmp_path, "a.xlsb", damaged_files.zipped({**parts, sheet: parts[sheet][:kept]}))


TITLED = [["Question", "Answer"], *([f"What is {n} and {n}?", f"It is {2 * n}."] for n in range(20))]


@pytest.mark.parametrize("titles", [[["FAQ of the shop"]], [["FAQ"], [], ["Exported in May", ""]], [["FAQ", ""]] * 2])
def test_the_header_stands_below_titles(tmp_path, titles):
    (tmp_path / "a.xlsx").write_bytes(strangers.workbook([*titles, *TITLED]))
    (tmp_path / "a.xls").write_bytes(
        binary_workbooks.xls([[*line, ""][:2] if line else ["", ""] for line in [*titles, *TITLED]])
    )
    for name in ("a.xlsx", "a.xls"):
        records = list(table.rows(tmp_path / name))
        assert [record.values for record in records] == [dict(zip(TITLED[0], line, strict=True)) for line in TITLED[1:]]
        assert records[0].where == f"row {len(titles) + 2}"


@pytest.mark.parametrize(
    "lines",
    [
        [["", "q", "a"], *([str(n), f"What is {n}?", f"It is {n}."] for n in range(9))],  # the index of pandas
        [
            ["", "", "text"],
            *([f"shop {n}", f"part {n}", f"A text about {n} of all."] for n in range(9)),
        ],  # of two levels
        [["text", ""], *([f"A review of {n * 'very, '} good.", f"Note {n}."] for n in range(9))],
        [
            ["Text", ""],
            ["good film", "good"],
            *([f"A long review of film {n}", ("bad", "good")[n % 2]] for n in range(9)),
        ],
        [["q", "a", "note"], ["What?", "", ""], *([f"What is {n}?", f"It is {n}", "yes"] for n in range(9))],
    ],
)
def test_a_header_that_lacks_names_is_no_title(tmp_path, lines):
    assert read(tmp_path, "a.xlsx", strangers.workbook(lines)) == [tuple(line) for line in lines[1:]]
