"""Read = kept + refused + merged, for each file of every format, whatever its records hold; and a hundred thousand malformed ones."""

import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tasks.core.records import Refusal
from tasks.stages.ingest.config import ExampleSource, IngestConfig
from tasks.stages.ingest.filtering.examples import Filter
from tasks.stages.ingest.outputs import kept_of_files, refused_examples
from tasks.stages.ingest.quarantine import MERGED, Quarantine
from tasks.stages.ingest.shards.collection import Reader, Shards, num_read, refusals
from tasks.stages.ingest.shards.parts import parts_of
from tests.support import ScratchRun

bounded = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.sampled_from(
    [
        "",
        " ",
        "yes",
        "no",
        "\x00",
        "a@web.de",
        "Was ist das?",
        "long " * 900,
        "ﬁ",
        "\u2028",
        "ghp_" + "aB3dE5gH7jK9" * 3,
    ]
)
rows = st.lists(st.fixed_dictionaries({"prompt": words, "completion": words}), min_size=1, max_size=12)


def csv_of(values, delimiter):
    quoted = [[f'"{cell}"' for cell in row.values()] for row in values]
    return "\n".join(delimiter.join(row) for row in [["prompt", "completion"], *quoted]).encode()


def parquet_of(values):
    buffer = io.BytesIO()
    pl.DataFrame(values).write_parquet(buffer)
    return buffer.getvalue()


def arrow_of(values):
    buffer = io.BytesIO()
    pl.DataFrame(values).write_ipc(buffer)
    return buffer.getvalue()


def zip_of(values):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl", FORMATS["a.jsonl"](values))
    return buffer.getvalue()


def workbook_of(values):
    """The parts of a workbook that a reader needs, its cells as texts; a number in each row, as blank rows are no records."""
    table = [["prompt", "completion", "n"], *([*row.values(), str(n)] for n, row in enumerate(values))]
    cells = [
        [
            f'<c t="inlineStr"><is><t xml:space="preserve">{escape(cell.replace(chr(0), ""))}</t></is></c>'
            for cell in row
        ]
        for row in table
    ]
    sheet = "".join(f"<row>{''.join(row)}</row>" for row in cells)
    main, package = (
        "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        "http://schemas.openxmlformats.org/package/2006",
    )
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    content = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    members = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{content}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="{content}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{sheet}</sheetData></worksheet>',
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return buffer.getvalue()


FORMATS = {
    "a.jsonl": lambda values: "\n".join(map(json.dumps, values)).encode(),
    "a.json": lambda values: json.dumps(values).encode(),
    "a.csv": lambda values: csv_of(values, ","),
    "a.tsv": lambda values: csv_of(values, "\t"),
    "a.parquet": parquet_of,
    "a.arrow": arrow_of,
    "a.jsonl.gz": lambda values: gzip.compress(FORMATS["a.jsonl"](values)),
    "a.csv.bz2": lambda values: bz2.compress(csv_of(values, ";")),
    "a.json.xz": lambda values: lzma.compress(json.dumps(values).encode()),
    "a.zip": zip_of,
    "a.xlsx": workbook_of,
}


def balance(folder, sources, **settings):
    """Return the balance of each file after everything that can refuse or merge an example, and the refusals."""
    config = IngestConfig.model_validate({"sources": sources, "near_duplicates": {"cosine": None}} | settings)
    with tempfile.TemporaryDirectory() as name:
        scratch, run, quarantine = Path(name), ScratchRun(Path(name)), Quarantine()
        shards = Shards(read(config.sources, config, scratch, run, quarantine))
        decisions = Filter(shards, 0, config, scratch, run).apply(None)
        quarantine.receive_table({}, refused_examples(shards, decisions, config, scratch / "refused"))
        return balanced(quarantine, kept_of_files(shards, decisions))


def read(sources, config, scratch, run, quarantine):
    """Return the shards of some sources, and account for them."""
    reader, shards = Reader(config, scratch / "cache", scratch, run), []
    for source in sources:
        made, summaries = reader.read(list(parts_of(source, config)))
        quarantine.receive_table(num_read(summaries), refusals(made))
        shards += made
    return shards


def balance_of_reading(source):
    """Return the balance of a source that is read alone, and the refusals."""
    source = TypeAdapter(ExampleSource).validate_python(source)
    config = IngestConfig(sources=(source,))
    with tempfile.TemporaryDirectory() as name:
        quarantine = Quarantine()
        shards = read([source], config, Path(name), ScratchRun(Path(name)), quarantine)
        kept = Counter(file for shard in shards for file in shard.examples(["file"])["file"])
        sheet, refused = balanced(quarantine, kept)
    (numbers,) = sheet.values()
    return numbers, refused


def balanced(quarantine, kept):
    return quarantine.balance(kept), [Refusal(*row) for row in quarantine.table().collect().iter_rows()]


@pytest.mark.parametrize("name", FORMATS)
@bounded
@given(values=rows, action=st.sampled_from(["report", "redact", "refuse"]))
def test_each_row_of_each_format_is_kept_merged_or_refused(tmp_path, name, values, action):
    (tmp_path / name).write_bytes(FORMATS[name](values))
    sheet, refused = balance(
        tmp_path, [{"from": "file", "path": tmp_path / name}], secrets=action, personal=action, max_examples=5
    )
    (numbers,) = sheet.values()
    assert numbers["read"] == len(values)
    assert numbers["read"] == numbers["kept"] + numbers["merged"] + sum(numbers["refused"].values())
    reasons = Counter(refusal.reason for refusal in refused)
    assert {reason: number for reason, number in reasons.items() if reason not in MERGED} == numbers["refused"]
    assert all(refusal.where and refusal.reason for refusal in refused)


@bounded
@given(values=rows)
def test_each_row_of_a_query_is_kept_merged_or_refused(tmp_path, values):
    path = tmp_path / "a.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (prompt, completion)")
        connection.executemany("INSERT INTO t VALUES (:prompt, :completion)", values)
    connection.close()
    source = {"from": "query", "database": str(path), "query": "SELECT * FROM t ORDER BY rowid"}
    numbers, refused = balance_of_reading(source)
    assert numbers["read"] == len(values) == numbers["kept"] + len(refused)


@bounded
@given(first=rows, second=rows)
def test_each_file_of_a_folder_has_a_balance_of_its_own(tmp_path, first, second):
    folder = tmp_path / "mixed"
    folder.mkdir(exist_ok=True)
    for name, values in (("a.jsonl", first), ("b.csv", second)):
        (folder / name).write_bytes(FORMATS[name.replace("b.", "a.")](values))
    sheet, _ = balance(tmp_path, [{"from": "file", "path": folder}])
    assert sorted(numbers["read"] for numbers in sheet.values()) == sorted([len(first), len(second)])


def malformed(number, seed):
    """Yield lines of JSON that are cut, doubled, of other values, of bytes that are no UTF-8, or of wrong shapes; a tenth is good."""
    draw = random.Random(seed)
    for place in range(number):
        good = json.dumps({"prompt": f"What is {place}?", "completion": f"It is {place}."}).encode()
        at = draw.randrange(1, len(good) - 1)
        yield draw.choice([
            good, good[:at], good[at:], good + good, good[:at] + b"\xff\xfe" + good[at:], good[:at] + b"\x00" + good[at:],
            b"[" + good + b"]", b"null", b"1e999", good.replace(b"prompt", b"Prompt "), good.replace(b'": "', b'": ["', 1), b"{" * 300,
        ])  # fmt: skip


@pytest.mark.parametrize(("ending", "number"), [("jsonl", 60_000), ("jsonl.gz", 20_000), ("json", 20_000)])
def test_a_hundred_thousand_malformed_lines(tmp_path, ending, number):
    lines = list(malformed(number, ending))
    data = b"\n".join([lines[0], *lines[1:]]) if "jsonl" in ending else b"[" + b",\n".join(lines) + b"]"
    path = tmp_path / f"a.{ending}"
    path.write_bytes(gzip.compress(data, 1) if ending.endswith("gz") else data)
    numbers, refused = balance_of_reading({"from": "file", "path": path})
    assert numbers["read"] == numbers["kept"] + sum(numbers["refused"].values())
    if "jsonl" in ending:
        assert numbers["read"] == number
        assert numbers["kept"] > number / 20
    else:  # what follows a brace that does not close is one record, which says where it begins
        assert numbers["kept"] >= 1
        assert refused[-1].record
    assert all(refusal.where and refusal.reason for refusal in refused)
