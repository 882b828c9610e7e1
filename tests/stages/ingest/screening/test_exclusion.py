"""What was asked to be forgotten is left out by id and by place, and no text of it is kept anywhere."""

import json
import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Document, Refusal, content_id
from tasks.io import tables
from tasks.stages.ingest.chunking import chunk_document
from tasks.stages.ingest.config import Folder, IngestConfig
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading.sources import as_lasting, tell_apart
from tasks.stages.ingest.screening.exclusion import beginnings, check, is_named, refused, resolved
from tasks.stages.ingest.screening.screen import screen_documents, screen_examples
from tests import tiny as small
from tests.stages.ingest.running import examples_of, ingest, write_rows
from tests.support import ScratchRun

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


def test_modules_of_one_of_two_folders_of_a_name_are_left_out(tmp_path, sources):
    folders = [tmp_path / f"raw/{name}/src" for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        for number in range(6):
            code = f'    """Return the sum of it and {number}.\n\n    >>> add(1)\n    {1 + number}\n    """\n    return it + {number}\n'
            (folder / f"m{number}.py").write_text(f"def add(it):  # {folder.parent.name}\n{code}")
    code = [{"from": "folder", "path": str(folder)} for folder in folders]
    ingest(tmp_path, [*sources, *code], near_duplicates={"jaccard": None, "cosine": None})
    places = {example.source.partition(":")[0] for example in kept(tmp_path).values() if ".py" in example.source}
    assert len(places) == 2
    entry = as_lasting("folder src", [Folder.model_validate(code[0])])
    _, report = ingest(tmp_path, [*sources, *code], exclude=[entry])
    assert [report["sources"][place]["refused"].get("forgotten", 0) for place in sorted(places)] == [6, 0]


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
    refused = tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)
    assert [row.record for row in refused if row.reason == "forgotten"] == ["", ""]
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
    (folders[0] / "m.py").write_text("".join(f"leaf_{number} = {number}\n" for number in range(99)))
    for file in ("0.md", "m.py"):
        with pytest.raises(ValueError, match=rf"exclude: {file}: no folder is named.*`folder texts: {file}`"):
            ingest(tmp_path, sources, "bare", corpora=corpora, exclude=[file])


def test_the_name_of_a_folder_alone_is_refused_but_beside_its_place():
    folders = [("20240101", "folder data/raw/20240101")]
    check(["20240101", "folder data/raw/20240101"], folders)
    check(["20240101", "folder data/raw/20240101"])
    check(["20240101", "folder 20240101 (3f2a9c10)"])
    for entry in ("20240101", "20240101: m.py"):
        with pytest.raises(ValueError, match=f"no folder is named.*`folder data/raw/{entry}`"):
            check([entry], folders)
        with pytest.raises(ValueError, match="no repository is named"):
            check([entry])


def test_a_source_is_left_out_whatever_others_there_are_and_in_any_order(tmp_path):
    pages = {name: tmp_path / f"raw/{name}/docs" for name in "abc"}
    for name, folder in pages.items():
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.md").write_text(f"Page {number} of {name} is about the {NAMES[number]} alone.\n" * 3)

    def kept_and_said(names, exclude):
        corpora = {"domain": [{"from": "folder", "path": str(pages[name])} for name in names]}
        run, report = ingest(tmp_path, [], run=ScratchRun(tmp_path), corpora=corpora, exclude=exclude)
        kept = [name for name, counts in zip(names, report["sources"].values(), strict=True) if counts["kept"]]
        return "".join(kept), " ".join(line for line in run.said if "exclude" in line)

    folders = {name: Folder.model_validate({"from": "folder", "path": path}) for name, path in pages.items()}
    entries = {name: as_lasting("folder docs", [folder]) for name, folder in folders.items()}
    assert len({*entries.values(), "folder docs"}) == 4
    for order in ("bc", "ab", "ba", "cba"):
        assert kept_and_said(order, [entries["b"]]) == (order.replace("b", ""), "")
        assert kept_and_said(order, [f"{entries['b']}: {number}.md" for number in range(6)])[0] == order.replace(
            "b", ""
        )
    gone = entries["b"].replace("docs", "pages")
    kept, said = kept_and_said("ac", [gone])
    assert kept == "ac"
    assert said.endswith(f"because it is gone or has another place or text: {gone}.")
    kept, said = kept_and_said("ac", ["folder docs"])
    assert kept == "c"
    assert f"`{entries['a']}`: write that" in said


@pytest.mark.parametrize("rest", ["", ": 0.md"])
def test_an_entry_of_a_source_that_was_moved_is_refused_with_the_label_of_now(rest):
    a, b, c = (Folder.model_validate({"from": "folder", "path": f"/{name}/docs"}) for name in "abc")
    labels = [as_lasting("folder docs", [one]) for one in (a, b, c)]
    tell_apart([b, c])
    config = IngestConfig.model_validate({"sources": [a], "exclude": [labels[0] + rest]})
    assert resolved(config, [a], print).exclude == (f"folder docs{rest}",)
    with pytest.raises(ValueError, match=re.escape(f"{labels[0]}{rest}: no source has this label")) as error:
        resolved(config, [b, c], print)
    assert " or ".join(f"`{one}`" for one in sorted(labels[1:])) in str(error.value)
    with pytest.raises(ValueError, match="the present label, `folder docs`"):
        resolved(config, [Folder.model_validate({"from": "folder", "path": "docs"})], print)


@pytest.mark.parametrize("group", [None, "book"])
def test_a_text_of_a_table_is_left_out_by_its_id_where_rows_are_put_above_it(tmp_path, sources, group):
    rows = [{"text": f"Text {number} tells of the {NAMES[number % 6]}.", "book": number} for number in range(12)]
    table = {"from": "file", "path": str(tmp_path / "raw/prose.jsonl"), "text": "text", "group": group}

    def texts(name, rows, exclude=()):
        (tmp_path / "raw/prose.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run, _ = ingest(tmp_path, sources, name, run=ScratchRun(tmp_path), corpora={"domain": [table]}, exclude=exclude)
        assert "exclude" not in " ".join(run.said)
        paths = (tmp_path / name / "ingested").glob("*_documents.parquet")
        return {document.text: document.id for path in paths for document in tables.read(path, Document)}

    before = texts("before", rows)
    above = {"text": "Text above all others.", "book": "above"}
    gone = rows[1]["text"]
    assert before.keys() - texts("by id", rows, [before[gone]]).keys() == {gone}
    after = texts("after", [above, *rows], [before[gone] if group else content_id(gone)])
    assert before.keys() ^ after.keys() == {gone, above["text"]}
    # Every one that names the text is told, so nothing is said to have named nothing.
    every_name = ["file prose.jsonl: line 2", content_id(gone), *([] if group else [before[gone]])]
    assert before.keys() - texts("by all", rows, every_name).keys() == {gone}


@pytest.mark.parametrize("kind", ["example", "document"])
def test_what_was_redacted_is_left_out_by_the_id_that_tables_show(kind):
    config = IngestConfig.model_validate(
        {"sources": [{"from": "file", "path": "a.jsonl"}], "personal": "redact", "quality": {}}
    )
    text = "Write to zebedee@hills.org of it."
    made = (
        small.example(response=text) if kind == "example" else Document("d", text, "domain", "g", "train", "p", "MIT")
    )
    screen = screen_examples if kind == "example" else screen_documents
    items = [Sourced("file", made)]
    shown = screen(items, config).items[0].record
    if kind == "document":
        (shown,) = chunk_document(shown, 1_000)
    assert shown.id != made.id
    screened = screen(items, config.model_copy(update={"exclude": (shown.id,)}))
    assert [reason for reason, _ in screened.refused.values()] == ["forgotten"]
    assert screened.sensitive == []


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
