"""Valid files of every format, and seeded damage to them: for `benchmarks/malformed.py` and the tests of readers."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import sqlite3
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pyarrow as pa

from benchmarks.binary_workbooks import xls, xlsb_parts

ROWS = 100
"""Records of a file."""
Damage = Callable[[random.Random, bytes], bytes]
Rows = Sequence[Mapping[str, str]]


def rows() -> Rows:
    """Return the records of every table."""
    return [
        {"prompt": f"What is {n} times {n}, in words?", "completion": f"It is {n * n}; née “{n}”."} for n in range(ROWS)
    ]


def json_lines() -> bytes:
    """Return the rows as JSON, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()).encode()


def delimited(delimiter: str) -> bytes:
    """Return the rows with a header, every field in quotes."""
    return "".join(delimiter.join(f'"{cell}"' for cell in line) + "\n" for line in _with_header(rows())).encode()


def _with_header(values: Rows) -> list[list[str]]:
    return [list(values[0]), *(list(row.values()) for row in values)]


def parquet(compression: str = "zstd", values: Rows | None = None) -> bytes:
    """Return rows as Parquet, in row groups of a fifth."""
    data, frame = io.BytesIO(), pl.DataFrame(values or rows())
    frame.write_parquet(data, compression=compression, row_group_size=len(frame) // 5)  # type: ignore[arg-type]
    return data.getvalue()


def arrow(values: Rows | None = None, *, is_stream: bool = False) -> bytes:
    """Return rows as an Arrow file or stream, in batches of a fifth."""
    data, table = io.BytesIO(), pa.Table.from_pylist(list(values or rows()))
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with new(data, table.schema) as writer:
        writer.write_table(table, max_chunksize=len(table) // 5)
    return data.getvalue()


def semicolons() -> bytes:
    """Return the rows as Excel saves them as Unicode text: UTF-16 with a mark, and semicolons."""
    return delimited(";").decode().encode("utf-16")


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return a zip archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """Return a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml"
OASIS = "urn:oasis:names:tc:opendocument:xmlns"
SPREADSHEET = "application/vnd.oasis.opendocument.spreadsheet"


def workbook_parts(values: Rows | None = None) -> dict[str, bytes]:
    """Return the parts of a workbook with rows, its cells as texts."""
    cell = '<c t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>'
    cells = ["".join(map(cell.format, map(escape, line))) for line in _with_header(values or rows())]
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType='
        f'"{SHEET}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{SHEET}.worksheet+xml"/></Types>',
        "_rels/.rels": _relation(f"{OFFICE}/officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation(f"{OFFICE}/worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}"><sheetData>'
        f"{''.join(f'<row>{line}</row>' for line in cells)}</sheetData></worksheet>",
    }
    return {name: f'<?xml version="1.0" encoding="UTF-8"?>{part}'.encode() for name, part in parts.items()}


def binary_workbook_parts(values: Rows | None = None) -> Mapping[str, bytes]:
    """Return the parts of a binary workbook (xlsb) with rows."""
    return xlsb_parts(_with_header(values or rows()))


def open_document_parts(values: Rows | None = None) -> dict[str, bytes]:
    """Return the parts of a spreadsheet of OpenDocument with rows."""
    names = " ".join(f'xmlns:{name}="{OASIS}:{name}:1.0"' for name in ("office", "table", "text"))
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    cells = ["".join(map(cell.format, map(escape, line))) for line in _with_header(values or rows())]
    lines = "".join(f"<table:table-row>{line}</table:table-row>" for line in cells)
    manifest = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{SPREADSHEET}"/>'
    parts = {
        "mimetype": SPREADSHEET,
        "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{OASIS}:manifest:1.0">{manifest}</manifest:manifest>',
        "content.xml": f'<office:document-content {names} office:version="1.2"><office:body><office:spreadsheet>'
        f'<table:table table:name="a">{lines}</table:table></office:spreadsheet></office:body></office:document-content>',
    }
    return {name: part.encode() for name, part in parts.items()}


def word_parts() -> dict[str, bytes]:
    """Return the parts of a Word document with the rows as paragraphs."""
    body = "".join(f"<w:p><w:r><w:t>{row['prompt']} {row['completion']}</w:t></w:r></w:p>" for row in rows())
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="{main}"/></Types>',
        "_rels/.rels": _relation(f"{OFFICE}/officeDocument", "word/document.xml"),
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
    }
    return {name: part.encode() for name, part in parts.items()}


def _relation(kind: str, target: str) -> str:
    relation = f'<Relationship Id="r1" Type="{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{PACKAGE}/relationships">{relation}</Relationships>'


def pdf() -> bytes:
    """Return the rows as a PDF of five pages."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer, lines = PdfWriter(), [f"{row['prompt']} {row['completion'].partition(';')[0]}" for row in rows()]
    kinds = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = writer._add_object(DictionaryObject({NameObject(key): NameObject(kind) for key, kind in kinds.items()}))
    for start in range(0, ROWS, ROWS // 5):
        page = writer.add_blank_page(600, 800)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        shown = " T* ".join(f"({line}) Tj" for line in lines[start : start + ROWS // 5])
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 14 TL 20 700 Td {shown} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def html() -> bytes:
    """Return the rows as a page with a list, a script and entities."""
    items = "".join(f"<li><b>{row['prompt']}</b> &ndash; {row['completion']}</li>\n" for row in rows())
    return f"<!doctype html><html><head><title>Rows</title><script>1 < 2</script></head><body><ul>{items}</ul></body></html>".encode()


def markdown() -> bytes:
    """Return the rows as Markdown."""
    return "".join(f"## {row['prompt']}\n\n{row['completion']}\n\n" for row in rows()).encode()


def latex() -> bytes:
    """Return the rows as LaTeX."""
    body = "\n\n".join(f"{row['prompt']} % a question\n{row['completion']}" for row in rows())
    return f"\\documentclass{{article}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n".encode()


def code() -> bytes:
    """Return the rows as a Python module of documented functions."""
    functions = (
        f'def times_{n}(number: int) -> int:\n    """{row["prompt"]}\n\n    {row["completion"]}\n    """\n    return {n} * number\n\n\n'
        for n, row in enumerate(rows())
    )
    return "".join(functions).encode()


def saved(values: Rows | None = None) -> dict[str, bytes]:
    """Return the files of a data set with rows, as `save_to_disk` of `datasets` writes them."""
    import datasets

    with tempfile.TemporaryDirectory() as folder:
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(list(values or rows())).save_to_disk(folder)
        return _files_in(Path(folder))


def repository() -> dict[str, bytes]:
    """Return the files of a git repository in which each row is a file of code."""
    license = "Permission is hereby granted, free of charge. The above copyright notice and this permission notice shall be included."
    facts = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "gc.auto=0")
    with tempfile.TemporaryDirectory() as folder:
        for n, row in enumerate(rows()):
            (Path(folder) / f"{n:03d}.c").write_text(
                f"/* {row['prompt']} {row['completion']} */\nint square = {n * n};\n"
            )
        (Path(folder) / "LICENSE").write_text(license)
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all", "--date=2020-01-01T00:00:00Z"]):
            environment = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z", "PATH": os.environ["PATH"]}
            subprocess.run(["git", "-C", folder, *facts, *command], check=True, env=environment)
        files = _files_in(Path(folder))
    used = (".git/objects/", ".git/HEAD", ".git/config", ".git/refs/")
    return {name: data for name, data in files.items() if name.startswith(used)}


def _files_in(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def database(kind: str, values: Rows | None = None) -> bytes:
    """Return rows as a database of SQLite or DuckDB with the table `chats`."""
    import duckdb

    frame = pl.DataFrame(values or rows()).with_row_index("number")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        connection = sqlite3.connect(path) if kind == "sqlite" else duckdb.connect(str(path))
        connection.execute("CREATE TABLE chats (number INTEGER, prompt TEXT, completion TEXT)")
        if isinstance(connection, sqlite3.Connection):
            connection.executemany(
                "INSERT INTO chats VALUES (?, ?, ?)", frame.select("number", "prompt", "completion").rows()
            )
        else:
            connection.register("frame", frame.to_arrow())
            connection.execute("INSERT INTO chats SELECT number, prompt, completion FROM frame")
        connection.commit()
        connection.close()
        return path.read_bytes()


TABLES: dict[str, Callable[[], bytes]] = {
    "rows.jsonl": json_lines,
    "rows.json": lambda: json.dumps(rows()).encode(),
    "keyed.json": lambda: json.dumps({f"q{number}": row for number, row in enumerate(rows())}, indent=1).encode(),
    "rows.csv": lambda: delimited(","),
    "rows.tsv": lambda: delimited("\t"),
    "utf16.csv": semicolons,
    "rows.jsonl.gz": lambda: gzip.compress(json_lines(), mtime=0),
    "rows.csv.bz2": lambda: bz2.compress(delimited(",")),
    "rows.json.xz": lambda: lzma.compress(json.dumps(rows()).encode()),
    "rows.jsonl.zst": lambda: pa.compress(json_lines(), codec="zstd", asbytes=True),
    "rows.zip": lambda: zipped({"a.jsonl": json_lines(), "b.csv": delimited(";")}),
    "rows.tar": lambda: tarred({"a.jsonl": json_lines(), "b.csv": delimited(";")}),
    "rows.xls": lambda: xls(_with_header(rows())),
    "rows.xlsb": lambda: zipped(binary_workbook_parts()),
    "rows.xlsx": lambda: zipped(workbook_parts()),
    "rows.ods": lambda: zipped(open_document_parts()),
    "rows.parquet": parquet,
    "plain.parquet": lambda: parquet("uncompressed"),
    "rows.arrow": arrow,
    "stream.arrow": lambda: arrow(is_stream=True),
}
DATABASES: dict[str, Callable[[], bytes]] = {
    "rows.sqlite": lambda: database("sqlite"),
    "rows.duckdb": lambda: database("duckdb"),
}
DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "page.html": html,
    "page.md": markdown,
    "page.tex": latex,
    "page.pdf": pdf,
    "page.docx": lambda: zipped(word_parts()),
}
MODULES: dict[str, Callable[[], bytes]] = {"module.py": code}
FOLDERS: dict[str, Callable[[], dict[str, bytes]]] = {"data set on disk": saved, "git repository": repository}
PARTS: dict[str, Callable[[], Mapping[str, bytes]]] = {
    "rows.zip": lambda: {"a.jsonl": json_lines(), "b.csv": delimited(";")},
    "rows.xlsb": binary_workbook_parts,
    "rows.xlsx": workbook_parts,
    "rows.ods": open_document_parts,
    "page.docx": word_parts,
}
"""Archives in which half of the damage is inside the members, because a checksum would detect damage outside."""


def records_in(name: str) -> int:
    """Return the records of an undamaged file or folder of this name. A document is one."""
    if name in DOCUMENTS:
        return 1
    several = {
        "rows.zip": 2 * ROWS,
        "rows.tar": 2 * ROWS,
        "git repository": ROWS + 1,
    }  # two members; the licence is a file too
    return several.get(name, ROWS)


def _place(draw: random.Random, data: bytes) -> tuple[int, int]:
    """Return the start and end of a run of up to a tenth of the data: short ones mostly, and a third of them near one of the ends."""
    length = min(len(data), int(draw.choice([1, 4, 16, 64, max(1, len(data) // 10)])))
    near = draw.choice([None, None, None, None, 0, len(data) - length])
    start = draw.randrange(len(data) - length + 1)
    if near is not None:
        start = max(0, min(len(data) - length, near + draw.randrange(-64, 65)))
    return start, start + length


def _flip(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 2, 8])):
        start, _ = _place(draw, data)
        changed[start] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _overwrite(draw: random.Random, data: bytes) -> bytes:
    start, end = _place(draw, data)
    run = draw.choice([bytes(end - start), b"\xff" * (end - start), draw.randbytes(end - start)])
    return data[:start] + run + data[end:]


def _delete(draw: random.Random, data: bytes) -> bytes:
    start, end = _place(draw, data)
    return data[:start] + data[end:]


def _insert(draw: random.Random, data: bytes) -> bytes:
    start, end = _place(draw, data)
    return data[:start] + draw.choice([data[start:end], draw.randbytes(end - start)]) + data[start:]


def _truncate(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.choice([draw.randrange(len(data)), len(data) - draw.randrange(1, min(64, len(data)))])]


def _behead(draw: random.Random, data: bytes) -> bytes:
    return data[draw.randrange(1, min(64, len(data))) :]


def _swap(draw: random.Random, data: bytes) -> bytes:
    first, second, third = sorted(draw.randrange(len(data)) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _refoot(draw: random.Random, data: bytes) -> bytes:
    """Replace the last bytes of the file by another part of it, or by random bytes."""
    length = draw.choice([4, 8, 32, 128])
    start = draw.randrange(max(1, len(data) - length))
    return data[:-length] + draw.choice([data[start : start + length], draw.randbytes(length)])


DAMAGES: Sequence[Damage] = (_flip, _flip, _overwrite, _delete, _insert, _truncate, _behead, _swap, _refoot)


def damaged(name: str, number: int, seed: int = 0) -> list[bytes]:
    """Return the given number of damaged copies of a file of this name, each damaged once or twice."""
    draw = random.Random(f"{seed} {name}")
    write = {**TABLES, **DATABASES, **DOCUMENTS, **MODULES}[name]
    valid, parts = write(), PARTS[name]() if name in PARTS else {}
    copies = []
    for place in range(number):
        if parts and place % 2:
            part = draw.choice(sorted(parts))
            copies.append(zipped(parts | {part: _harmed(draw, parts[part])}))
        else:
            copies.append(_harmed(draw, valid))
    return copies


def damaged_folders(name: str, number: int, seed: int = 0) -> Iterator[dict[str, bytes]]:
    """Yield the files of the given number of copies of a folder; in each copy one file is damaged once or twice."""
    draw = random.Random(f"{seed} {name}")
    files = FOLDERS[name]()
    filled = [file for file, data in files.items() if data]
    for _ in range(number):
        file = draw.choice(filled)
        yield files | {file: _harmed(draw, files[file])}


def _harmed(draw: random.Random, data: bytes) -> bytes:
    for _ in range(draw.choice([1, 1, 2])):
        data = draw.choice(DAMAGES)(draw, data) if len(data) > 1 else data
    return data
