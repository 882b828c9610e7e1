"""The time and memory of earlier runs, read from a local database by SQL and from any store by MLflow."""

import sqlite3
import subprocess
import sys

import pytest

from tasks.io.runs import past_runs, run_store, tracking


def record(stage, status="FINISHED", key="k", **params):
    tags = {"dvc.stage": stage, "machine": "a CPU"} | ({"ratchet.key": key} if key else {})
    run = tracking.Recorder(stage, tags=tags)
    run.params(**params)
    run.metrics({"peak_memory_mb": 5.0})
    run.metrics({"peak_memory_mb": 7.0})
    run.end(status, wait=True)


@pytest.fixture(params=["SQL", "MLflow"])
def read(request, monkeypatch):
    """Reads the past of stages by one of the two ways, and by no other."""

    def refused(*_):
        raise sqlite3.OperationalError("no such table: runs") if request.param == "MLflow" else AssertionError

    monkeypatch.setattr(past_runs, "_of_file" if request.param == "MLflow" else "_of_client", refused)
    return past_runs.past


def test_runs_that_made_nothing_say_nothing_of_what_a_stage_takes(store, read):
    record("tune@r0", **{"tune.seed": 0, "note": "ä" * 300})
    for _ in range(21):  # as nights without news leave them: more than one look at the store brings back
        cached = tracking.Recorder("tune@r0 · cached", tags={"dvc.stage": "tune@r0", "ratchet.cached": "true"})
        cached.end("FINISHED")
    record("tune@r1", status="FAILED", key=None)
    record("tune@r2", taken_over_from="tune@r0")
    (only,) = read(["tune"], most=5)["tune"]
    assert (only.config, only.machine) == ({"tune.seed": "0", "note": "ä" * 300}, "a CPU")
    assert (only.memory_mb, only.output_mb) == (7.0, None)
    assert 0 <= only.seconds < 60
    assert read(["tun"]) == {"tun": []}


def test_the_latest_runs_of_a_stage_come_first_whichever_item_they_are_of(store, read):
    for seed in range(3):
        record(f"tune@r{seed}", **{"tune.seed": seed})
    record("tuned", **{"tune.seed": 9})
    record("tune", **{"tune.seed": 3})
    assert [run.config["tune.seed"] for run in read(["tune"], most=3)["tune"]] == ["3", "2", "1"]


def test_both_ways_answer_the_same(store):
    for seed in range(3):
        record(f"tune@r{seed}", **{"tune.seed": seed})
    record("select")
    stages = ["tune", "select", "report"]
    file = run_store.file_of(run_store.uri())
    client, experiment = run_store.connect()
    by_client = {stage: past_runs._of_client(client, experiment, stage, 20) for stage in stages}
    assert past_runs._of_file(file, stages, 20) == by_client
    assert [len(by_client[stage]) for stage in stages] == [3, 1, 0]


def test_runs_that_were_deleted_in_mlflow_and_those_of_other_experiments_do_not_count(store, read, monkeypatch):
    record("tune", **{"tune.seed": 0})
    client, experiment = run_store.connect()
    (run,) = client.search_runs([experiment])
    client.delete_run(run.info.run_id)
    assert read(["tune"]) == {"tune": []}
    client.restore_run(run.info.run_id)
    assert len(read(["tune"])["tune"]) == 1
    monkeypatch.setenv("RATCHET_NAME", "another")
    assert read(["tune"]) == {"tune": []}


def test_a_local_database_is_read_without_mlflow(store):
    record("tune")
    program = "import sys; from tasks.io.runs import past_runs; print(len(past_runs.past(['tune'])['tune']), 'mlflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "1 False\n", run.stderr


def test_a_store_that_is_away_has_no_past(tmp_path, monkeypatch, caplog):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{broken}")
    assert past_runs.past(["tune"]) == {}
    assert "does not answer" in caplog.text
