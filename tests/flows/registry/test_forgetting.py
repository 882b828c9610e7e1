"""What an example reached is named: rounds, models, versions; and it is excluded."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

from flows.registry import forgetting, history
from tasks import configuration
from tasks.core.records import Document, Example, content_id
from tasks.io import tables
from tasks.stages.ingest.reading.sources import all_sources, as_lasting, label, tell_apart
from tasks.stages.ingest.reading.sources import tables as source_tables
from tests.flows.registry.made_model import MadeModel
from tests.tiny import example

ROUND, TEXTS = Path("data/rounds/r0/examples.parquet"), Path("data/ingested/train_documents.parquet")


@pytest.fixture
def made(tmp_path):
    workspace = MadeModel(tmp_path)
    rows = [replace(example(n, split="train", domain="a.jsonl"), source=f"file a.jsonl: line {n}") for n in range(3)]
    tables.write(tmp_path / ROUND, rows, Example)
    descendant = replace(rows[1], id="child", parents=[rows[1].id], source="refined")
    tables.write(tmp_path / "data/rounds/r1/examples.parquet", [rows[0], descendant], Example)
    texts = [Document(f"d{n}", "A text.", "domain", "g", "train", f"notes.md §{n}", "MIT") for n in (1, 2)]
    tables.write(tmp_path / TEXTS, texts, Document)
    workspace.lock()
    return rows


def test_an_example_is_followed_to_its_descendants_and_to_the_models_that_learnt_it(made):
    reach = forgetting.find(made[1].id)
    assert {str(match.table): len(match.ids) for match in reach.matches} == {
        str(ROUND): 1,
        "data/rounds/r1/examples.parquet": 1,
    }
    assert (reach.rounds, reach.models, reach.exclude) == (["r0", "r1"], ["models/tuned/r0"], [made[1].id])


def test_a_merged_model_was_trained_on_what_its_experts_were(made, tmp_path):
    workspace = MadeModel.__new__(MadeModel)
    workspace.folder = tmp_path

    def merged(name, *experts):
        recorded = [{"path": expert, "weight": 1.0, "digest": "0"} for expert in experts]
        workspace.model(f"models/{name}", 3.0, merge={"method": "linear", "experts": recorded})

    merged("twice", "models/once", "models/pretrained")
    merged("once", "models/tuned/r0")
    merged("of-base", "models/base")
    merged("of-gone", "models/tuned/r0", "models/gone")
    workspace.model("models/tuned/r9", 2.0)
    reach = forgetting.find(made[1].id)
    assert reach.models == ["models/once", "models/tuned/r0", "models/twice"]
    assert reach.unknown == ["models/of-gone", "models/tuned/r9"]


def test_a_version_of_a_merged_model_is_reached_or_unknown_and_never_denied(workspace_of_model):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    held = pl.read_parquet(ROUND)["id"][0]
    version = Path("models/versions/1")
    candidate = json.loads((version / "candidate.json").read_text())
    candidate["files"]["model"]["path"] = "models/merged"
    (version / "candidate.json").write_text(json.dumps(candidate))
    assert forgetting.find(held).versions == {1: None}, "no record says how it was made"
    card = version / "model/ratchet.json"
    experts = {"merge": {"experts": [{"path": "models/tuned/r0"}]}}
    card.write_text(json.dumps(json.loads(card.read_text()) | experts))
    assert forgetting.find(held).versions == {1: True}


def test_a_source_is_all_its_rows_and_no_other_source_of_a_like_name(made):
    for name in ("file a.jsonl", "a.jsonl", "/somewhere/a.jsonl"):
        reach = forgetting.find(name)
        assert [len(match.ids) for match in reach.matches] == [3, 2]  # one of r1 is a child of line 1
        assert reach.exclude == ["file a.jsonl"]
    assert [len(match.ids) for match in forgetting.find("file a.jsonl: line 2").matches] == [1]
    with pytest.raises(ValueError, match=r"No table holds 'data/raw/a\.json'.*`ratchet data search` finds ids"):
        forgetting.find("data/raw/a.json")


def test_a_folder_is_its_texts_and_its_modules(made, tmp_path):
    module = replace(example(7), source="folder docs: m.py:take")
    names = ("docs", "b")
    texts = [Document(f"in {n}", "A text.", "domain", n, "train", f"folder {n}: README.md", "MIT") for n in names]
    tables.write(tmp_path / "data/ingested/train.parquet", [module], Example)
    tables.write(tmp_path / TEXTS, texts, Document)
    reach = forgetting.find("docs")
    assert reach.exclude == ["folder docs"]
    assert {identity for match in reach.matches for identity in match.ids} == {module.id, "in docs"}


def with_sources(*sources, key="domain"):
    """The sources that params.yaml names from now on."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    if key == "domain":
        params["ingest"]["corpora"] = {"domain": list(sources)}
    else:
        params["ingest"][key] = list(sources)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    named = all_sources(configuration.load().ingest)
    tell_apart(named)
    return named


def texts_at(*places):
    texts = [Document(place, "A text.", "domain", place, "train", place, "MIT") for place in places]
    tables.write(TEXTS, texts, Document)


@pytest.mark.parametrize("above", ["", "{}/"])
def test_a_folder_is_found_by_its_path_and_one_of_a_like_name_stays(made, tmp_path, above):
    paths = [f"{above.format(tmp_path)}{name}/src" for name in "ab"]
    for path in paths:
        Path(path).mkdir(parents=True)
    first, second = (label(one) for one in with_sources(*({"from": "folder", "path": path} for path in paths))[-2:])
    texts_at(f"{first}: README.md", f"{first}: m.py", f"{second}: README.md", f"{second}: m.py")
    reach = forgetting.find(str(tmp_path / "b/src"))
    assert {identity for match in reach.matches for identity in match.ids} == {
        f"{second}: README.md",
        f"{second}: m.py",
    }
    assert reach.exclude == [second]


@pytest.mark.parametrize("above", ["", "{}/"])
def test_a_file_below_a_folder_is_found_by_its_path(made, tmp_path, above):
    first, second = with_sources(*({"from": "folder", "path": f"{above.format(tmp_path)}{name}/src"} for name in "ab"))[
        -2:
    ]
    texts_at(*(f"{label(one)}: {file}" for one in (first, second) for file in ("sub/a.md", "a.md")))
    for path in (f"{above.format(tmp_path)}b/src/sub/a.md", "./b/src/sub/a.md"):
        reach = forgetting.find(path)
        assert [match.ids for match in reach.matches] == [{f"{label(second)}: sub/a.md"}]
        assert reach.exclude == [as_lasting(f"{label(second)}: sub/a.md", [first, second])]
    with pytest.raises(ValueError, match="No table holds"):
        forgetting.find("b/src/sub/b.md")


def test_what_is_forgotten_is_named_so_that_it_stays_whatever_other_sources_come(made):
    (first,) = with_sources({"from": "folder", "path": "/a/docs"})[-1:]
    texts_at("folder docs: README.md")
    (entry,) = forgetting.find("/a/docs").exclude
    assert label(first) == "folder docs" != entry
    assert forgetting.find(entry).exclude == [entry]
    other, first = with_sources({"from": "folder", "path": "/b/docs"}, {"from": "folder", "path": "/a/docs"})[-2:]
    assert (label(first), label(other)) == (entry, "folder docs")
    with pytest.raises(ValueError, match="No table holds"):
        forgetting.find("/a/docs")  # as its rows have that label after `ratchet run ingest` alone
    assert forgetting.find("/b/docs").exclude != [entry]


@pytest.mark.parametrize("path", ["data/raw/chats", "data/raw/chats/*.jsonl", "{}/data/raw/chats"])
def test_a_folder_of_tables_is_all_its_tables_and_each_is_found_by_its_path(made, tmp_path, path):
    Path("data/raw/chats").mkdir(parents=True)
    for name in "abc":
        Path(f"data/raw/chats/{name}.jsonl").write_text("{}\n")
    other, source = with_sources(
        {"from": "file", "path": "/elsewhere/a.jsonl"},
        {"from": "file", "path": path.format(tmp_path)},
        key="sources",
    )[:2]
    labels = [table.label for table in source_tables(source)]
    rows = [replace(example(n), source=f"{place}: line 1") for n, place in enumerate([*labels[:2], label(other)])]
    tables.write(ROUND, rows, Example)
    entries = [as_lasting(place, [other, source]) for place in labels]
    for name in ("data/raw/chats", "./data/raw/chats/", str(tmp_path / "data/raw/chats"), path.format(tmp_path)):
        reach = forgetting.find(name)
        assert len(reach.matches[-1].ids) == 2
        assert reach.exclude == entries, "c has no row in a table, and would take the place of those of a"
    Path("data/raw/chats/b.jsonl").unlink()
    for number, name in enumerate(("a", "b")):
        reach = forgetting.find(str(tmp_path / f"data/raw/chats/{name}.jsonl"))
        assert reach.exclude == [entries[number]]
    with pytest.raises(ValueError, match="No table holds"):
        forgetting.find("/nowhere/a.jsonl")


def test_a_place_may_be_longer_than_the_name_of_a_file(made):
    place = f"folder docs: {'ж' * 124}.md"
    texts_at(place)
    assert forgetting.find(place).exclude == [place]


def test_a_row_of_a_table_is_named_by_its_text_unless_it_was_cut(made):
    places = {"row": "file t.jsonl: line 2", "cell": "file t.xlsx: texts, row 3", "file": "folder docs: line 2.md"}
    texts = [Document(one, "A text.", "domain", "g", "train", place, "MIT") for one, place in places.items()]
    texts.append(replace(texts[0], id="piece", source="file t.jsonl: line 4 §1"))
    tables.write(TEXTS, texts, Document)
    named = {one: forgetting.find(one).exclude for one in ("row", "cell", "file", "piece")}
    assert named == {
        "row": [content_id("A text.")],
        "cell": [content_id("A text.")],
        "file": ["folder docs: line 2.md"],
        "piece": ["file t.jsonl: line 4"],
    }


def test_a_piece_of_a_document_is_forgotten_with_all_of_it_since_pieces_are_cut_anew(made):
    reach = forgetting.find("d2")
    assert (reach.exclude, reach.models) == (["notes.md"], ["models/pretrained", "models/tuned/r0"])


def test_a_version_is_reached_if_its_own_data_held_it(workspace_of_model):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    held = pl.read_parquet(ROUND)["id"][0]
    assert forgetting.find(held).versions == {1: True}
    other = example(9, split="train", domain="later.jsonl")
    tables.write(Path("data/rounds/r1/examples.parquet"), [other], Example)
    assert forgetting.find(other.id).versions == {1: None}  # DVC's cache does not hold the tables of then
    assert history.read().promoted.keys() == {1}


def test_a_version_of_earlier_places_is_unknown_where_it_had_a_text_of_that_file(
    workspace_of_model, monkeypatch, tmp_path
):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    for name in ("a.md", "b.md"):
        texts = [Document(f"new {name}", "Now.", "domain", f"docs/{name}", "train", f"folder docs: {name}", "MIT")]
        tables.write(Path(f"data/ingested/{name[0]}_documents.parquet"), texts, Document)
    of_then = [Document("old", "Then.", "domain", "docs/a.md", "train", "a.md", "MIT")]
    tables.write(tmp_path / "of_then.parquet", of_then, Document)
    monkeypatch.setattr(forgetting.cache, "file", lambda digest: tmp_path / "of_then.parquet")
    assert forgetting.find("new a.md").versions == {1: None}
    assert forgetting.find("new b.md").versions == {1: False}


def test_a_version_is_reached_through_a_rewrite_of_a_rewrite(workspace_of_model, monkeypatch, tmp_path):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    first = example(20, split="train", domain="later.jsonl")
    child = replace(example(21, split="train", domain="later.jsonl"), parents=[first.id])
    grandchild = replace(example(22, split="train", domain="later.jsonl"), parents=[child.id])
    tables.write(Path("data/rounds/r5/examples.parquet"), [first], Example)
    tables.write(Path("data/rounds/r6/examples.parquet"), [child], Example)
    tables.write(tmp_path / "of_then.parquet", [grandchild], Example)
    monkeypatch.setattr(forgetting.cache, "file", lambda digest: tmp_path / "of_then.parquet")
    assert forgetting.find(first.id).versions == {1: True}
    assert forgetting.find(child.id).versions == {1: True}


def test_what_is_forgotten_is_excluded_once_and_the_settings_keep_their_comments(made):
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "# mine\n")
    assert forgetting.exclude(["a", "notes.md"]) == ["a", "notes.md"]
    assert forgetting.exclude(["a"]) == []
    assert configuration.load().model_dump()["ingest"]["exclude"] == ("a", "notes.md")
    assert "# mine" in Path("params.yaml").read_text()
    assert yaml.safe_load(Path("params.yaml").read_text())["ingest"]["exclude"] == ["a", "notes.md"]
