"""Files as users bring them: the same twelve questions in many formats, encodings and shapes."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile

import polars as pl
import pyarrow

PAIRS = [
    (f"Wie heißt die Mehrzahl von Wort {n}?", f"Die Mehrzahl heißt Wörter, zum {n}. Mal; schön.") for n in range(12)
]
ROWS = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def delimited(delimiter=",", encoding="utf-8", names=("prompt", "completion"), **options):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=options.pop("lineterminator", "\n"), **options)
    writer.writerow(names)
    writer.writerows(PAIRS)
    return text.getvalue().encode(encoding)


def zipped(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def parquet(rows):
    data = io.BytesIO()
    pl.DataFrame(rows).write_parquet(data)
    return data.getvalue()


def arrow(rows, *, stream=False):
    data = io.BytesIO()
    frame = pl.DataFrame(rows)
    if stream:
        frame.write_ipc_stream(data)
    else:
        frame.write_ipc(data)
    return data.getvalue()


SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OASIS = "urn:oasis:names:tc:opendocument:xmlns"


def workbook(rows):
    """Write a minimal Excel workbook with one sheet of inline texts."""
    cells = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t>{value}</t></is></c>' for value in row) + "</row>" for row in rows
    )
    return workbook_of(f"<sheetData>{cells}</sheetData>")


def workbook_of(sheet):
    """Write a minimal Excel workbook with this sheet."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    return zipped({
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{SHEETS}" xmlns:r="{office}"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/a.xml"/></Relationships>',
        "xl/worksheets/a.xml": f'<worksheet xmlns="{SHEETS}">{sheet}</worksheet>',
    })  # fmt: skip


def open_document(rows, repeated=""):
    """Write a minimal OpenDocument spreadsheet. `repeated` are attributes of its last row."""
    *others, last = [
        "".join(
            f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>' for value in row
        )
        for row in rows
    ]
    lines = "".join(f"<table:table-row>{row}</table:table-row>" for row in others)
    lines += f"<table:table-row {repeated}>{last}</table:table-row>"
    names = " ".join(f'xmlns:{name}="{OASIS}:{name}:1.0"' for name in ("office", "table", "text"))
    manifest = f'xmlns:manifest="{OASIS}:manifest:1.0"'
    media_type = "application/vnd.oasis.opendocument.spreadsheet"
    return zipped({
        "mimetype": media_type,
        "META-INF/manifest.xml": f'<manifest:manifest {manifest}><manifest:file-entry manifest:full-path="/" manifest:media-type="{media_type}"/></manifest:manifest>',
        "content.xml": f'<office:document-content {names} office:version="1.2"><office:body><office:spreadsheet><table:table table:name="a">{lines}</table:table></office:spreadsheet></office:body></office:document-content>',
    })  # fmt: skip


def zstandard(data):
    return pyarrow.compress(data, codec="zstd", asbytes=True)


FILES = {
    "plain.jsonl": LINES,
    "marked.ndjson": b"\xef\xbb\xbf" + LINES,
    "windows.jsonl": LINES.decode().encode("utf-16"),
    "packed.jsonl.gz": gzip.compress(LINES),
    "packed.jsonl.bz2": bz2.compress(LINES),
    "packed.jsonl.xz": lzma.compress(LINES),
    "packed.jsonl.zst": zstandard(LINES),
    "no_ending": LINES,
    "lines.json": LINES,
    "list.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode("latin-1"),
    "keyed.json": json.dumps({f"q{number}": row for number, row in enumerate(ROWS)}, indent=1).encode(),
    "nested.json": json.dumps({"version": 2, "about": {"by": "us"}, "data": ROWS}).encode(),
    "columns.json": json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "comma.csv": delimited(),
    "tabs.tsv": delimited("\t"),
    "semicolon.csv": delimited(";", "utf-8-sig"),
    "bar.csv": delimited("|", quoting=csv.QUOTE_ALL),
    "excel.csv": delimited(";", "utf-16", lineterminator="\r\n"),
    "excel_tabs.csv": delimited("\t", "utf-16-le"),
    "latin.csv": delimited(",", "latin-1"),
    "single.csv": delimited(",", quotechar="'", quoting=csv.QUOTE_ALL),
    "escaped.csv": delimited(",", quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\"),
    "mac.csv": delimited(",", lineterminator="\r"),
    "sep.csv": b"sep=;\r\n" + delimited(";", "cp1252", lineterminator="\r\n"),
    "packed.csv.gz": gzip.compress(delimited()),
    "table.txt": delimited("\t"),
    "table.parquet": parquet(ROWS),
    "table.parquet.gz": gzip.compress(parquet(ROWS)),
    "table.arrow": arrow(ROWS),
    "stream.arrow": arrow(ROWS, stream=True),
    "table.xlsx": workbook([ROWS[0].keys(), *PAIRS]),
    "table.ods": open_document([ROWS[0].keys(), *PAIRS]),
    "one.zip": zipped({"inside/rows.jsonl": LINES}),
    "packed_twice.zip": zipped({"rows.csv.gz": gzip.compress(delimited())}),
    "parquet.zip": zipped({"rows.parquet": parquet(ROWS)}),
}
