"""What was asked to be forgotten is left out by id and by place, and no text of it is kept anywhere."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Document, Refusal
from tasks.io import tables
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.screening.exclusion import beginnings, check, is_named, refused
from tests import tiny as small
from tests.stages.ingest.running import examples_of, ingest, write_rows

NAMES = ("leaf", "mouse", "foot", "child", "goose", "knife")


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in NAMES:
        write_rows(tmp_path / f"raw/{name}.jsonl", name, 4)
    (tmp_path / "raw/gone.jsonl").write_text('{"prompt": "Who was it?", "completion": "It was Zebedee of the hill."}\n')
    return [{"from": "file", "path": str(tmp_path / f"raw/{name}.jsonl")} for name in (*NAMES, "gone")]


def kept(tmp_path, name="out"):
    return {example.id: example for rows in examples_of(tmp_path, name).values() for example in rows}


def test_an_id_and_a_source_are_left_out_and_the_rest_stays(tmp_path, sources):
    ingest(tmp_path, sources, "before", near_duplicates={"jaccard": None, "cosine": None})
    before = kept(tmp_path, "before")
    one = next(example for example in before.values() if example.source.startswith("file goose.jsonl"))
    place = next(
        example.source for example in before.values() if example.source.startswith("file gone.jsonl")
    ).partition(":")[0]
    excluded = [one.id, place]
    _, report = ingest(tmp_path, sources, exclude=excluded, near_duplicates={"jaccard": None, "cosine": None})
    assert before.keys() - kept(tmp_path).keys() == {
        example.id
        for example in before.values()
        if example.id == one.id or example.source.startswith("file gone.jsonl")
    }
    assert report["dropped"]["forgotten"] == 2
    refused = [
        row for row in tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal) if row.reason == "forgotten"
    ]
    assert {row.record for row in refused} == {""}
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and b"Zebedee" in path.read_bytes()]
    assert {path.relative_to(tmp_path).parts[0] for path in holding} <= {"raw", "before"}


def test_a_row_that_another_rule_refuses_leaves_no_text_either(tmp_path, sources):
    gone = tmp_path / "raw/gone.jsonl"
    gone.write_text(gone.read_text() + '{"name": "Zebedee"}\nZebedee\n{"prompt": "Zebedee?", "completion": ""}\n')

    def quarantined(name, exclude):
        ingest(tmp_path, sources, name, exclude=exclude)
        rows = tables.read(tmp_path / name / "ingested/quarantine.parquet", Refusal)
        return {row.where: (row.reason, "Zebedee" in row.record + row.detail) for row in rows if "gone" in row.source}

    entries = [f"file gone.jsonl: line {number}" for number in (2, 3, 4)]
    before = quarantined("before", [])
    assert [reason for reason, _ in before.values()] == ["unknown shape", "not JSON", "empty content"]
    assert all(is_shown for _, is_shown in before.values())
    assert quarantined("out", entries) == dict.fromkeys(before, ("forgotten", False))
    assert quarantined("after", []) == before


@pytest.mark.parametrize(("entry", "left_out"), [("file prose.jsonl: line {}", 3), ("file prose.jsonl", 12)])
def test_a_row_that_becomes_no_document_leaves_no_text_either(tmp_path, sources, entry, left_out):
    rows = [json.dumps({"text": f"Text {number} tells of {number} things.", "book": number}) for number in range(9)]
    rows += ["Zebedee", '{"text": "Of Zebedee"}', '{"book": 9, "Zebedee": 1}']
    (tmp_path / "raw/prose.jsonl").write_text("\n".join(rows))
    text_table = {"from": "file", "path": str(tmp_path / "raw/prose.jsonl"), "text": "text", "group": "book"}
    # Not as the only texts: an entry may name all of the table.
    (tmp_path / "raw/texts").mkdir()
    for number in range(8):
        (tmp_path / f"raw/texts/{number}.md").write_text(f"Page {number} is about {NAMES[number % 6]} alone.\n" * 3)
    corpora = {"domain": [text_table, {"from": "folder", "path": str(tmp_path / "raw/texts"), "license": "MIT"}]}

    def quarantined(name, exclude):
        ingest(tmp_path, sources, name, corpora=corpora, exclude=exclude)
        rows = tables.read(tmp_path / name / "ingested/quarantine.parquet", Refusal)
        return [(row.reason, "Zebedee" in row.record + row.detail) for row in rows if "prose" in row.source]

    assert quarantined("before", []) == [("not JSON", True), ("no group", True), ("no text", True)]
    assert quarantined("out", [entry.format(number) for number in (10, 11, 12)]) == [("forgotten", False)] * left_out


def test_a_text_of_a_table_is_left_out_by_its_place_and_no_other_tables(tmp_path, sources):
    for name in ("prose", "verse"):
        texts = [f"Text {number} of {name} tells of {NAMES[number % 6]} and {number} {name}s." for number in range(9)]
        (tmp_path / f"raw/{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    files = [tmp_path / f"raw/{name}.jsonl" for name in ("prose", "verse")]
    corpora = {"domain": [{"from": "file", "path": str(path), "text": "text"} for path in files]}
    ingest(tmp_path, sources, corpora=corpora, exclude=["file verse.jsonl: line 3", "file prose.jsonl: line 5"])
    left = [
        document.source
        for path in (tmp_path / "out/ingested").glob("*_documents.parquet")
        for document in tables.read(path, Document)
    ]
    expected = {f"file {name}.jsonl: line {number}" for name in ("prose", "verse") for number in range(1, 10)}
    assert set(left) == expected - {"file verse.jsonl: line 3", "file prose.jsonl: line 5"}
    for bare in ("line 3", "texts, row 3", "part.jsonl line 3"):
        with pytest.raises(ValueError, match=rf"ingest\.exclude: {bare}: no file is named.*`file NAME: {bare}`"):
            check(["file prose.jsonl: line 3", bare, "3f2a9c10"])
    with pytest.raises(ValueError, match="no file is named"):
        ingest(tmp_path, sources, "bare", corpora=corpora, exclude=["line 3"])
    with pytest.raises(ValueError, match=r"0123456789ab: a\.py: no repository is named.*`repository PATH: a\.py`"):
        check(["0123456789ab: a.py"])


def test_a_document_is_left_out_by_its_place_and_that_of_another_folder_stays(tmp_path, sources):
    folders = [tmp_path / "raw/texts", tmp_path / "raw/others"]
    for folder in folders:
        folder.mkdir()
        for number in range(8):
            (folder / f"{number}.md").write_text(
                f"Text {number} of {folder.name} tells of {NAMES[number % 6]} and of nothing else, {number} times over.\n"
            )
    corpora = {"domain": [{"from": "folder", "path": str(folder), "license": "MIT"} for folder in folders]}

    def places(name):
        paths = (tmp_path / name / "ingested").glob("*_documents.parquet")
        return {document.source for path in paths for document in tables.read(path, Document)}

    ingest(tmp_path, sources, "before", corpora=corpora)
    alike = {"folder texts: 0.md", "folder others: 0.md"}
    assert alike <= places("before")
    ingest(tmp_path, sources, corpora=corpora, exclude=["folder texts: 0.md"])
    assert alike & places("out") == {"folder others: 0.md"}
    with pytest.raises(ValueError, match=r"exclude: 0\.md: no folder is named.*`folder texts: 0\.md`"):
        ingest(tmp_path, sources, "bare", corpora=corpora, exclude=["0.md"])


PLACES = st.lists(st.sampled_from(["a", "b", " line 3", ""]), min_size=1, max_size=3).map(":".join)


@given(st.lists(st.tuples(PLACES, PLACES), max_size=6), st.lists(PLACES, max_size=3))
def test_a_table_is_searched_as_records_are(rows, entries):
    items = [Sourced("file", small.example(id=one, source=place)) for one, place in rows]
    frame = pl.DataFrame(
        {"id": [one for one, _ in rows], "where": [place for _, place in rows]}, {"id": pl.String, "where": pl.String}
    )
    named = frame.select(is_named(entries, "where")).to_series()
    assert set(named.arg_true()) == refused(items, entries).keys()


def test_a_place_begins_at_its_colons():
    assert beginnings("toolz 1.1.0: toolz/itertoolz.py:take") == [
        "toolz 1.1.0",
        "toolz 1.1.0: toolz/itertoolz.py",
        "toolz 1.1.0: toolz/itertoolz.py:take",
    ]
