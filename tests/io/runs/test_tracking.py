"""Runs reach MLflow whole, once and with a true status, whatever dies and whatever is away."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from tasks.io.runs import run_store, spool_uploader, tracking
from tests.io.runs.conftest import AWAY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_uploader(request, monkeypatch):
    """The tests say when spools are carried, but for those that leave it to the `process`."""
    if "process" not in request.fixturenames:
        monkeypatch.setattr(spool_uploader, "start", lambda: None)
        monkeypatch.setattr(spool_uploader, "LINGER_S", 0.0)


def runs(store):
    """All runs in the store, by name. No two have one name here: a second one would be a run that was opened twice."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name(run_store.NAME)
    in_store = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in in_store}
    assert len(by_name) == len(in_store)
    return by_name


def history(store, run, key):
    from mlflow import MlflowClient

    points = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in points]


def spools():
    return sorted(run_store.SPOOL.glob("*.jsonl"))


def carried(*recorders, status="FINISHED"):
    """End these runs and carry all there is."""
    for recorder in recorders:
        recorder.end(status)
    spool_uploader.upload()


def record(name="run", **options):
    """A run with something of everything."""
    recorder = tracking.Recorder(name, tags={"dvc.stage": "tune@r0"}, **options)
    recorder.params(rank=8, adapter="lora")
    for step in range(3):
        recorder.metrics({"loss": 3.0 - step, "rate": 0.1}, step)
    recorder.metrics({"final": 0.5})
    recorder.tags(note="done", dvc__hash="abc")
    recorder.datasets({"data/a.parquet": "d41d8cd98f00b204e9800998ecf8427e", "models/base": "f" * 32 + ".dir"})
    return recorder


def test_everything_that_is_recorded_arrives(store):
    carried(record())
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rank": "8", "adapter": "lora"}
    assert history(store, run, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert run.data.metrics["final"] == 0.5
    assert {"dvc.stage": "tune@r0", "note": "done", "dvc.hash": "abc"}.items() <= run.data.tags.items()
    inputs = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs == {"data/a.parquet": "d41d8cd98f00b204e9800998ecf8427e", "models/base": "f" * 32 + ".dir"}
    assert spools() == []


def test_a_run_may_get_its_name_and_description_at_its_end(store):
    recorder = tracking.Recorder("pipeline")
    recorder.rename("tiny · r0 · 3 of 4 stages ran")
    recorder.describe("**better**" + " " * tracking.LONGEST_TAG)
    carried(recorder)
    (run,) = runs(store).values()
    assert run.info.run_name == run.data.tags["mlflow.runName"] == "tiny · r0 · 3 of 4 stages ran"
    assert run.data.tags["mlflow.note.content"].rstrip() == "**better**"


def test_a_file_is_sent_as_it_was_when_it_was_recorded_and_no_copy_stays(store, tmp_path, away):
    report = tmp_path / "report.html"
    report.write_text("first")
    recorder = tracking.Recorder("run")
    recorder.artifact(report, "report")
    recorder.artifact(tmp_path / "none.csv")
    recorder.end("FINISHED")
    spool_uploader.upload()  # the store is away
    report.write_text("second")
    away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    spool_uploader.upload()
    (run,) = runs(store).values()
    sent = Path(unquote(urlsplit(run.info.artifact_uri).path))
    assert [path.name for path in sent.rglob("*") if path.is_file()] == ["report.html"]
    assert (sent / "report/report.html").read_text() == "first"
    assert not list(run_store.SPOOL.glob(f"*{spool_uploader.ARTIFACTS}"))


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_status_is_the_one_that_was_said(store, status):
    carried(tracking.Recorder("run"), status=status)
    assert runs(store)["run"].info.status == status


def test_the_times_are_those_of_the_events_and_not_of_the_upload(store, away):
    before = int(time.time() * 1000)
    recorder = tracking.Recorder("run")
    recorder.end("FINISHED")
    after = int(time.time() * 1000)
    spool_uploader.upload()
    away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    spool_uploader.upload()
    info = runs(store)["run"].info
    assert before <= info.start_time <= info.end_time <= after


def test_a_child_names_its_parent_by_our_own_id(store):
    parent = tracking.Recorder("parent")
    spool_uploader.deliver()
    carried(tracking.Recorder("child", parent=parent.id), parent)
    recorded_runs = runs(store)
    assert recorded_runs["child"].data.tags["mlflow.parentRunId"] == recorded_runs["parent"].info.run_id


def test_a_parent_that_arrives_last_adopts_its_children(store):
    parent = tracking.Recorder("parent")
    hidden = parent._path.rename("hidden")  # as when its process is cut off from the store
    tracking.Recorder("child", parent=parent.id).end("FINISHED")
    spool_uploader.upload()
    assert set(runs(store)) == {"child"}
    hidden.rename(parent._path)
    carried(parent)
    recorded_runs = runs(store)
    assert recorded_runs["child"].data.tags["mlflow.parentRunId"] == recorded_runs["parent"].info.run_id


KILLED = """
import os, signal
from tasks.core import environment
from tasks.io.runs import tracking
recorder = tracking.Recorder("killed")
recorder.metrics({"loss": 1.0}, 1)
with open(recorder._path, "a") as spool:
    spool.write('{"kind": "metr')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_run_of_a_killed_process_is_closed_as_killed_by_the_next(store):
    died = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | AWAY | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    while spool_uploader.lives():  # its own, which has found the store away
        time.sleep(0.1)
    assert len(spools()) == 1
    carried(tracking.Recorder("next"))
    recorded_runs = runs(store)
    assert {name: run.info.status for name, run in recorded_runs.items()} == {"killed": "KILLED", "next": "FINISHED"}
    assert history(store, recorded_runs["killed"], "loss") == [(1, 1.0)]
    assert spools() == []


def test_a_run_that_was_killed_before_its_spool_had_a_name_leaves_nothing(store):
    run_store.SPOOL.mkdir(parents=True)
    unfinished = run_store.SPOOL / "left.new"
    unfinished.write_text('{"kind": "sta')
    with spool_uploader.birth():  # another run is being born: it might be its
        spool_uploader.deliver()
        assert unfinished.exists()
    spool_uploader.deliver()
    assert not unfinished.exists()


def test_a_run_that_is_still_written_is_nobodys_orphan(store):
    living = tracking.Recorder("living")
    assert not spool_uploader._close_if_ownerless(living._path)
    assert '"end"' not in living._path.read_text()
    carried(living)


def test_the_run_that_made_a_stages_outputs_is_found_by_its_key(store):
    for name, status in (("failed", "FAILED"), ("made", "FINISHED"), ("failed again", "FAILED")):
        tracking.Recorder(name, tags={"dvc.stage": "tune@r0", "ratchet.key": "k1"}).end(status)
        time.sleep(0.01)
    carried(tracking.Recorder("its equal", tags={"dvc.stage": "tune@r1", "ratchet.key": "k1"}))
    producers = tracking.produced_by({"tune@r0": "k1", "tune@r1": "k1", "fetch": "k2"})
    assert producers == {
        "tune@r0": runs(store)["made"].info.run_id,
        "tune@r1": runs(store)["its equal"].info.run_id,
    }


def test_a_run_points_to_the_one_that_made_its_outputs_even_where_mlflow_hears_of_both_later(store, away, monkeypatch):
    names = (uuid.UUID(letter * 32) for letter in "dcba")  # in this order, the reverse of that of the spools by name
    monkeypatch.setattr(tracking, "uuid", SimpleNamespace(uuid4=lambda: next(names)))
    made = tracking.Recorder("made", tags={"dvc.stage": "tune@r0", "ratchet.key": "k1"})
    made.end("FINISHED")
    time.sleep(0.01)
    for name, key in (("cached", "k1"), ("of other inputs", "k2")):
        later = tracking.Recorder(name)
        later.made_by("tune@r0", key)
        later.end("FINISHED")
    spool_uploader.upload()
    assert spool_uploader.outage()
    away.undo()
    spool_uploader.upload()
    recorded_runs = runs(store)
    assert recorded_runs["cached"].data.tags["ratchet.produced_by"] == recorded_runs["made"].info.run_id
    assert "ratchet.produced_by" not in recorded_runs["of other inputs"].data.tags


def test_a_full_disk_breaks_no_run_off(store, monkeypatch, caplog):
    recorder = tracking.Recorder("run")

    def full(_text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        recorder._spool,
        "_file",
        type("Full", (), {"write": staticmethod(full), "close": recorder._spool._file.close})(),
    )
    recorder.metrics({"loss": 1.0})
    recorder.end("FINISHED")
    assert "No space left on device" in caplog.text


def test_nothing_is_found_while_the_store_is_away(away):
    assert tracking.produced_by({"tune@r0": "k1"}) == {}


def test_a_spool_holds_one_event_a_line():
    recorder = record()
    events = [json.loads(line) for line in recorder._path.read_text().splitlines()]
    assert [event["kind"] for event in events] == ["start", "params", *["metrics"] * 4, "tags", "datasets"]
    recorder.end("FINISHED")


def test_one_process_at_a_time_carries(store):
    with spool_uploader._locked():
        carried(tracking.Recorder("run"))
        assert len(spools()) == 1
    spool_uploader.upload()
    assert spools() == []


def test_a_run_that_ends_while_the_uploader_leaves_is_carried_all_the_same(store, monkeypatch):
    late, passes = tracking.Recorder("late"), []

    def leave_too_soon():
        # The run's owner sees the lock held, and starts no uploader.
        passes.append(spool_uploader.lives())
        if len(passes) == 1:
            late.end("FINISHED")
        else:
            spool_uploader.deliver()

    monkeypatch.setattr(spool_uploader, "_upload_while_written", leave_too_soon)
    spool_uploader.upload()
    assert passes == [True, True]
    assert spools() == []
