"""Files as strangers have them: the same twelve questions in many formats, encodings and shapes."""

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
    "one.zip": zipped({"inside/rows.jsonl": LINES}),
    "packed_twice.zip": zipped({"rows.csv.gz": gzip.compress(delimited())}),
    "parquet.zip": zipped({"rows.parquet": parquet(ROWS)}),
}
