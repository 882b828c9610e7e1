"""What comes in, held against real tables, a real embedder and a real model, all of them small."""

import json
import random
import re
import shutil
import time
from pathlib import Path

import mlflow
import pytest

from tasks import monitor
from tasks.core.records import Example, Message
from tasks.io import tables
from tasks.io.weights import models
from tasks.stages.ingest.reading import incoming
from tests import tiny as small
from tests.test_configuration import ROOT

OURS = ["sort", "list", "count", "words", "sum", "even", "odd", "numbers", "reverse", "text"]
THEIRS = ["please", "book", "a", "table", "flight", "hotel", "for", "two", "tonight", "tomorrow"]


def prompts(count, words, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=6)) + "?" for _ in range(count)]


def foreign(seed):
    """Letters that the random model finds as unlikely as any, three bytes each."""
    draw = random.Random(seed)
    return "".join(chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(12))


def example(number, prompt, response="Yes, of course.", **fields):
    messages = [Message("user", prompt), Message("assistant", response)]
    return small.example(number, **fields | {"messages": messages})


def training_data(folder):
    """What a model was trained on and chosen by, and the embedder."""
    small.embedder(folder / "models/embedder", sorted({*OURS, *THEIRS}))
    trained = [example(n, text) for n, text in enumerate(prompts(80, OURS, 0))]
    held_out = [example(n, text, split="valid") for n, text in enumerate(prompts(40, OURS, 1))]
    tables.write(folder / "data/rounds/r0/examples.parquet", trained, Example)
    tables.write(folder / "data/ingested/valid.parquet", held_out, Example)


def place(folder, tiny):
    """A workspace in which everything has run: `tiny` is the candidate."""
    shutil.copyfile(ROOT / "params/micro.yaml", folder / "params.yaml")
    training_data(folder)
    card = {"candidate": "r0", "files": {"model": {"path": str(tiny), "hash": ""}}}
    (folder / "models/candidate.json").write_text(json.dumps(card))


def send(folder, texts, name="in.jsonl", **more):
    path = folder / name
    path.write_text("".join(json.dumps({"prompt": text} | more) + "\n" for text in texts))
    return path


@pytest.fixture
def workspace(tiny, tmp_path):
    place(tmp_path, tiny)
    return tmp_path


def look(folder, *paths):
    monitor.main(folder / "found.json", list(paths))
    return json.loads((folder / "found.json").read_text())


def test_more_of_the_same_is_no_drift(workspace, store):
    found = look(workspace, send(workspace, prompts(40, OURS, 2), completion="Yes, of course."))
    assert found["drifted"] == []
    assert found["items"] == found["read"] == 40
    assert found["level"] == 0.005


def test_other_questions_and_harder_answers_are_drift(workspace, store):
    found = look(workspace, send(workspace, prompts(40, THEIRS, 2), completion=foreign(0)))
    assert found["drifted"] == ["mmd", "loss_gap"]
    gap = found["findings"]["loss_gap"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert gap["unit"] == "nats per token"


def test_prompts_alone_are_compared_with_prompts(workspace, store):
    found = look(workspace, send(workspace, prompts(40, OURS, 2)))
    assert found["drifted"] == []
    found = look(workspace, send(workspace, [foreign(seed) for seed in range(40)]))
    assert "loss_gap" in found["drifted"]


def test_a_model_without_a_longest_text_is_watched_too(workspace, store, monkeypatch):
    monkeypatch.setattr(models, "load", small.without_limit(models.load))
    assert look(workspace, send(workspace, prompts(40, OURS, 2)))["drifted"] == []


@pytest.fixture
def watching(workspace):
    """A workspace whose monitor looks for new domains."""
    with (workspace / "params.yaml").open("a") as config:
        config.write("monitor: {methods: [hdc]}\n")
    return workspace


def test_a_new_domain_is_proposed_by_the_file_it_came_in_with_its_rows(watching, store):
    tool = {"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}
    send(watching, prompts(30, THEIRS, 2), "travel.jsonl", completion="Yes, of course.", tools=[tool])
    send(watching, prompts(10, OURS, 3), "usual.jsonl")
    found = look(watching, watching / "travel.jsonl", watching / "usual.jsonl")
    assert found["drifted"] == ["hdc"]
    proposal = found["proposal"]
    assert proposal["task"] == "travel"
    new, came = proposal["by_file"]["travel"]
    assert came == 30
    assert new >= 25
    assert proposal["answered"] == new
    rows = list(incoming.read([Path(proposal["rows"])]))
    assert len(rows) == proposal["items"] == sum(new for new, _ in proposal["by_file"].values())
    answered = [row for row in rows if row.response != incoming.NONE]
    assert {row.messages[0].content for row in answered} <= set(prompts(30, THEIRS, 2))
    assert all(json.loads(row.tools) == [tool] for row in answered)
    assert "new" not in found["findings"]["hdc"]


def test_more_of_the_same_proposes_nothing_though_single_items_are_rare(watching, store):
    found = look(watching, send(watching, prompts(40, OURS, 2)))
    assert (found["drifted"], found["proposal"]) == ([], None)
    assert list(watching.glob("*.new.jsonl")) == []


def test_where_rows_stand_and_how_often_changes_nothing(workspace, store):
    rows = prompts(40, OURS, 2)
    first = look(workspace, send(workspace, rows))
    assert look(workspace, send(workspace, rows[::-1] * 2))["findings"] == first["findings"]


def test_the_figures_are_in_mlflow(workspace, store):
    path = send(workspace, prompts(40, THEIRS, 2))
    found = look(workspace, path)
    from tasks.io.runs import spool_uploader

    while spool_uploader.lives():
        time.sleep(0.1)
    spool_uploader.upload()
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["mmd.chance"] == pytest.approx(found["findings"]["mmd"]["chance"])
    assert run.data.tags["ratchet.drift"] == "true"
    assert run.inputs.dataset_inputs[0].dataset.name == path.as_posix()


def test_rows_that_are_too_few_yet_are_counted(workspace):
    path = send(workspace, prompts(3, OURS, 2))
    path.write_text(path.read_text() + '{"a": 1}\n')
    found = look(workspace, path)
    assert list(found) == ["too_few"]
    assert re.fullmatch(
        r"3 rows of .*in.jsonl can be read \(1 unknown shape\); at least 5 are needed\.", found["too_few"]
    )


def test_many_rows_of_which_too_few_can_be_read_are_refused(workspace):
    path = send(workspace, prompts(3, OURS, 2))
    path.write_text(path.read_text() + '{"a": 1}\n' * 2)
    with pytest.raises(ValueError, match=r"3 rows of .*in.jsonl can be read \(2 unknown shape\)"):
        look(workspace, path)


def test_without_a_model_it_is_said_what_makes_one(workspace):
    (workspace / "models/candidate.json").unlink()
    with pytest.raises(FileNotFoundError, match="ratchet run"):
        look(workspace, send(workspace, prompts(40, OURS, 2)))
