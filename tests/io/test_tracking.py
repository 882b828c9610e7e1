"""Runs reach MLflow whole, once and with a true status, whatever dies and whatever is away."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.io import tracking

ROOT = Path(__file__).resolve().parents[2]
AWAY = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
}


@pytest.fixture(autouse=True)
def _fresh_carrier(monkeypatch):
    """A carrier of this test: one that has not looked for orphans yet."""
    monkeypatch.setattr(tracking, "_carrier", tracking._Carrier())


@pytest.fixture
def away(monkeypatch):
    """A store that does not answer, until it is called off."""
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        yield patch


def runs(store):
    """All runs in the store, by name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def history(store, run, key):
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in found]


def spools():
    return sorted(tracking.SPOOL.glob("*.jsonl"))


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
    record().end("FINISHED")
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rank": "8", "adapter": "lora"}
    assert history(store, run, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert run.data.metrics["final"] == 0.5
    assert {"dvc.stage": "tune@r0", "note": "done", "dvc.hash": "abc"}.items() <= run.data.tags.items()
    inputs = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs == {"data/a.parquet": "d41d8cd98f00b204e9800998ecf8427e", "models/base": "f" * 32 + ".dir"}
    assert spools() == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_status_is_the_one_that_was_said(store, status):
    tracking.Recorder("run").end(status)
    assert runs(store)["run"].info.status == status


def test_the_times_are_those_of_the_events_and_not_of_the_upload(store, away):
    before = int(time.time() * 1000)
    recorder = tracking.Recorder("run")
    recorder.end("FINISHED")
    after = int(time.time() * 1000)
    away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    tracking._carrier.flush(30)
    info = runs(store)["run"].info
    assert before <= info.start_time <= info.end_time <= after


def test_a_child_names_its_parent_by_our_own_id(store):
    parent = tracking.Recorder("parent")
    tracking.Recorder("child", parent=parent.id).end("FINISHED")
    parent.end("FINISHED")
    found = runs(store)
    assert found["child"].data.tags["mlflow.parentRunId"] == found["parent"].info.run_id


def test_a_parent_that_arrives_last_adopts_its_children(store, monkeypatch):
    # Nobody carries the parent's spool, as when its process is cut off from the store.
    with monkeypatch.context() as patch:
        patch.setattr(tracking._carrier, "add", lambda path: None)
        parent = tracking.Recorder("parent")
    tracking.Recorder("child", parent=parent.id).end("FINISHED")
    assert set(runs(store)) == {"child"}
    tracking._carrier.add(parent._path)
    parent.end("FINISHED")
    found = runs(store)
    assert found["child"].data.tags["mlflow.parentRunId"] == found["parent"].info.run_id


def test_an_outage_loses_nothing_and_doubles_nothing(store, away):
    record("first").end("FAILED")
    record("second").end("FINISHED")
    assert len(spools()) == 2
    away.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    tracking._carrier.flush(30)
    found = runs(store)
    assert {name: run.info.status for name, run in found.items()} == {"first": "FAILED", "second": "FINISHED"}
    assert history(store, found["first"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert spools() == []


def test_an_outage_in_the_middle_of_a_run_loses_nothing_and_doubles_nothing(store, monkeypatch):
    recorder = record()
    tracking._carrier.flush(30)
    with monkeypatch.context() as patch:
        for name, value in AWAY.items():
            patch.setenv(name, value)
        recorder.metrics({"loss": 0.0}, 3)
        tracking._carrier.flush(30)
    recorder.end("FINISHED")
    assert list(runs(store)) == ["run"]
    assert history(store, runs(store)["run"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]


def test_a_batch_that_was_sent_but_not_ticked_off_is_not_doubled(store):
    recorder = record()
    tracking._carrier.flush(30)
    (sent,) = tracking.SPOOL.glob("*.sent")
    sent.unlink()  # as if the process had died between MLflow's answer and our note of it
    recorder.end("FINISHED")
    assert list(runs(store)) == ["run"]
    run = runs(store)["run"]
    assert history(store, run, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert len(run.inputs.dataset_inputs) == 2


def test_a_setting_noted_twice_keeps_its_first_value_and_stops_nothing(store):
    recorder = tracking.Recorder("run")
    recorder.params(sandbox="2")
    tracking._carrier.flush(30)
    recorder.params(sandbox="3")
    recorder.end("FINISHED")
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"sandbox": "2"}


def test_what_mlflow_refuses_does_not_hold_up_the_rest(store):
    recorder = tracking.Recorder("run", tags={"empty": ""})
    recorder.metrics({"pass@1": 0.5, "loss": float("nan")})
    recorder.params(**{"a,b=c": 1, "long": "x" * 10_000})
    recorder.end("FINISHED")
    run = runs(store)["run"]
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    assert run.data.params["long"] == "x" * 6000


KILLED = """
import os, signal
from tasks.io import tracking
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
    assert len(spools()) == 1
    tracking.Recorder("next").end("FINISHED")
    found = runs(store)
    assert {name: run.info.status for name, run in found.items()} == {"killed": "KILLED", "next": "FINISHED"}
    assert history(store, found["killed"], "loss") == [(1, 1.0)]
    assert spools() == []


def test_a_run_that_is_still_written_is_nobodys_orphan(store, monkeypatch):
    living = tracking.Recorder("living")
    monkeypatch.setattr(tracking, "_carrier", tracking._Carrier())  # as another process would have
    tracking.Recorder("other").end("FINISHED")
    assert '"end"' not in living._path.read_text()
    living.end("FINISHED", wait=False)


def test_a_spool_that_no_run_was_started_in_stops_nothing(store):
    tracking.SPOOL.mkdir(parents=True)
    (tracking.SPOOL / "empty.jsonl").touch()
    tracking.Recorder("run").end("FINISHED")
    assert list(runs(store)) == ["run"]
    assert runs(store)["run"].info.status == "FINISHED"


def test_the_run_that_made_a_stages_outputs_is_found_by_its_key(store):
    tracking.Recorder("failed", tags={"ratchet.key": "k1"}).end("FAILED")
    tracking.Recorder("made", tags={"ratchet.key": "k1"}).end("FINISHED")
    found = tracking.produced_by({"tune@r0": "k1", "fetch": "k2"})
    assert found == {"tune@r0": runs(store)["made"].info.run_id}


def test_nothing_is_found_while_the_store_is_away(away):
    assert tracking.produced_by({"tune@r0": "k1"}) == {}


def test_a_store_that_can_be_written_passes(store):
    tracking.check()
    store.unlink()
    tracking.check()


@pytest.mark.parametrize("damage", ["folder", "no-parent", "no-database"])
def test_an_unwritable_store_is_named_with_what_would_do(tmp_path, monkeypatch, damage):
    path = tmp_path / "here" / "mlflow.db"
    if damage == "folder":
        path.mkdir(parents=True)
    elif damage == "no-database":
        path.parent.mkdir()
        path.write_text("this is a text, and long enough to be taken for a database header" * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    with pytest.raises(ValueError, match="MLflow cannot record runs here") as caught:
        tracking.check()
    assert str(path) in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)


def test_a_store_that_does_not_answer_is_no_mistake(away):
    tracking.check()


def test_the_store_is_the_workspaces_unless_the_environment_names_another(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.uri() == "sqlite:///mlflow.db"


def test_a_spool_holds_one_event_a_line(store):
    recorder = record()
    events = [json.loads(line) for line in recorder._path.read_text().splitlines()]
    assert [event["kind"] for event in events] == ["start", "params", *["metrics"] * 4, "tags", "datasets"]
    recorder.end("FINISHED")


def python(code, **env):
    """A process that runs `code` in this folder."""
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)} | env, check=False, timeout=60
    )


def test_a_stage_of_a_flow_is_carried_by_the_flows_process(store):
    flow = tracking.Recorder("flow")
    stage = (
        "import os, sys\n"
        "from tasks.io import tracking\n"
        "recorder = tracking.Recorder('stage', parent=os.environ[tracking.PARENT])\n"
        "recorder.metrics({'loss': 1.0}, 1)\n"
        "recorder.end('FINISHED')\n"
        "sys.exit('mlflow' in sys.modules)\n"  # its import takes seconds, and that in every stage
    )
    assert python(stage, **{tracking.PARENT: flow.id}).returncode == 0
    tracking._carrier.flush(30)
    found = runs(store)
    assert found["stage"].info.status == "FINISHED"
    assert found["stage"].data.tags["mlflow.parentRunId"] == found["flow"].info.run_id
    assert history(store, found["stage"], "loss") == [(1, 1.0)]
    flow.end("FINISHED")
    assert spools() == []


def test_a_stage_of_a_flow_that_was_killed_is_closed_by_the_flows_process(store):
    flow = tracking.Recorder("flow")
    killed = KILLED.replace('Recorder("killed")', "Recorder('killed', parent=os.environ[tracking.PARENT])")
    assert python(killed, **{tracking.PARENT: flow.id}).returncode == -signal.SIGKILL
    tracking._carrier.flush(30)
    assert {name: run.info.status for name, run in runs(store).items()} == {"killed": "KILLED", "flow": "RUNNING"}
    flow.end("FINISHED")


def test_one_process_at_a_time_carries_a_spool(store):
    flow = tracking.Recorder("flow")
    tracking._carrier.flush(30)
    with flow._path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        flow.metrics({"loss": 1.0})
        assert not tracking._upload(flow._path)
        assert "loss" not in runs(store)["flow"].data.metrics
    flow.end("FINISHED")
    assert runs(store)["flow"].data.metrics == {"loss": 1.0}


def test_a_spool_that_another_process_has_carried_away_stops_nothing(store):
    gone = tracking.SPOOL / "gone.jsonl"
    assert not tracking._close_if_ownerless(gone)
    assert list(tracking._events(gone, 0)) == []
    assert tracking._upload(gone)
