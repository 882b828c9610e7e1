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
from tasks.core.records import Document, Example
from tasks.io import tables
from tasks.stages.ingest.reading.sources import label, tell_apart
from tasks.stages.ingest.screening.exclusion import check
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
    module = replace(example(7), source="docs: m.py:take")
    names = ("docs", "b")
    texts = [Document(f"in {n}", "A text.", "domain", n, "train", f"folder {n}: README.md", "MIT") for n in names]
    tables.write(tmp_path / "data/ingested/train.parquet", [module], Example)
    tables.write(tmp_path / TEXTS, texts, Document)
    reach = forgetting.find("docs")
    assert reach.exclude == ["docs", "folder docs"]
    assert {identity for match in reach.matches for identity in match.ids} == {module.id, "in docs"}


def test_a_folder_is_found_by_its_path_and_one_of_a_like_name_stays(made, tmp_path, monkeypatch):
    for name in ("a/docs", "data/raw/20240101", "b/docs"):
        (tmp_path / name).mkdir(parents=True)
    sources = [{"from": "folder", "path": str(tmp_path / name)} for name in ("a/docs", "b/docs")]
    sources.append({"from": "folder", "path": "data/raw/20240101"})
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["ingest"]["corpora"] = {"domain": sources}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    first, second, dated = configuration.load().ingest.corpora.domain
    tell_apart([first, second])
    places = [f"{label(second)}: README.md", "folder docs: README.md", "docs: m.py", "20240101: m.py"]
    texts = [Document(place, "A text.", "domain", place, "train", place, "MIT") for place in places]
    tables.write(tmp_path / TEXTS, texts, Document)
    assert label(second) != label(first)
    assert forgetting.find(str(tmp_path / "b/docs")).exclude == ["docs", label(second)]
    reach = forgetting.find("data/raw/20240101")
    assert reach.exclude == ["20240101"]
    check(reach.exclude, {dated.path.name})
    with pytest.raises(ValueError, match="no repository is named"):
        check(reach.exclude)


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
