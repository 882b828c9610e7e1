"""Runs that go to another machine as lines of a file."""

import json
import shutil

import pytest

from tasks.io.runs import run_history, run_store, tracking


@pytest.fixture
def elsewhere(empty_store, tmp_path, monkeypatch):
    """Goes to another machine: a folder and a store of their own."""

    def go():
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        shutil.copyfile(empty_store, folder / "mlflow.db")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")

    return go


def flow():
    """A flow and its stage, as they are recorded: our names of both."""
    parent = tracking.Recorder("pipeline", tags={"git.commit": "c"})
    stage = tracking.Recorder("tune@r0", parent=parent.id, tags={"dvc.stage": "tune@r0", "ratchet.key": "k"})
    stage.params(**{"tune.seed": 0, "note": "ä" * 300})
    for step in range(3):
        stage.metrics({"loss": 3.0 - step, "grad_norm": 1.0}, step)
    stage.metrics({"peak_memory_mb": 5.0})
    stage.datasets({"models/pretrained": "0123456789abcdef0123456789abcdef.dir"})
    stage.end("FINISHED", wait=True)
    parent.describe("what came of it")
    parent.end("FINISHED", wait=True)
    return parent.id, stage.id


def picture(name):
    """All that MLflow has of a run, but for its own names of runs."""
    client, experiment = run_store.connect()
    (run,) = client.search_runs([experiment], f"tags.`ratchet.run` = '{name}'")
    points = {
        metric: [(p.step, p.value, p.timestamp) for p in client.get_metric_history(run.info.run_id, metric)]
        for metric in run.data.metrics
    }
    theirs = {tag for tag in run.data.tags if tag.startswith("mlflow.")} - set(run_history.CARRIED)
    tags = {tag: value for tag, value in run.data.tags.items() if tag not in theirs}
    data = [(given.dataset.name, given.dataset.digest) for given in run.inputs.dataset_inputs]
    info = run.info
    return info.run_name, info.status, info.start_time, info.end_time, tags, run.data.params, points, data


def run_id(name):
    client, experiment = run_store.connect()
    (run,) = client.search_runs([experiment], f"tags.`ratchet.run` = '{name}'")
    return run.info.run_id


def test_runs_arrive_as_they_were_with_their_parent_and_only_once(store, tmp_path, elsewhere):
    parent, stage = flow()
    file = tmp_path / "data/runs.jsonl"
    assert run_history.export([run_id(stage)], file) == 2
    original = [picture(parent), picture(stage)]

    elsewhere()
    assert run_history.take_in(file) == (2, 0)
    assert run_history.take_in(file) == (0, 2)
    assert [picture(parent), picture(stage)] == original
    client, experiment = run_store.connect()
    assert len(client.search_runs([experiment])) == 2
    child = client.get_run(run_id(stage))
    assert child.data.tags["mlflow.parentRunId"] == run_id(parent)


def test_the_same_runs_are_the_same_lines(store, tmp_path):
    _, stage = flow()
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for file in (first, second):
        run_history.export([run_id(stage)], file)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"kind": "start"}',
        '{"run": "../../etc", "kind": "end", "time": 0, "status": "FINISHED"}',
        '{"run": "a", "kind": "rm"}',
        '{"run": "a", "kind": "metrics", "time": 1}',
        '{"run": "a", "kind": "artifact", "time": 1, "name": "a.txt", "folder": ""}',
    ],
)
def test_a_line_that_is_no_event_is_named(store, tmp_path, line):
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps({"run": "a1", "kind": "end", "time": 0, "status": "FINISHED"}) + f"\n{line}\n")
    with pytest.raises(ValueError, match=r"runs\.jsonl:2"):
        run_history.take_in(file)
    assert not list(run_store.SPOOL.glob("*.jsonl"))


def test_a_store_that_is_away_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    with pytest.raises(ConnectionError, match="does not answer"):
        run_history.export(["a"], tmp_path / "runs.jsonl")
