"""Runs are uploaded to MLflow by one process of its own, beside stages and flows."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tasks.core import environment
from tasks.io.runs import run_store, spool_uploader, tracking
from tests.io.runs.test_tracking import KILLED, ROOT, history, runs, spools


def python(code, *arguments, **env):
    """A process that runs `code` in this folder."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        check=False,
        timeout=60,
    )


STAGE = """
import os, sys
from tasks.core import environment
from tasks.io.runs import tracking
recorder = tracking.Recorder(f"stage {sys.argv[1]}", parent=os.environ.get(environment.PARENT_RUN))
recorder.metrics({"loss": 1.0}, 1)
recorder.end("FINISHED")
sys.exit("mlflow" in sys.modules)  # its import takes seconds, and that in every stage
"""


def test_stages_on_their_own_leave_their_runs_to_one_process_and_do_not_wait(store, process):
    for number in "12":
        assert python(STAGE, number).returncode == 0
        assert len(spools()) > 0
    while spools():
        time.sleep(0.1)
    assert {name: run.data.metrics for name, run in runs(store).items()} == {
        "stage 1": {"loss": 1.0},
        "stage 2": {"loss": 1.0},
    }


WITHOUT = """
import importlib, os, sys
from tasks.io.runs import spool_uploader, tracking
spool_uploader.start, spool_uploader.LINGER_S = (lambda: None), 0
tracking.Recorder("run").end("FINISHED")
lock = spool_uploader._locked()
spool_uploader.main([str(os.dup(lock.fileno()))])
imported = {"mlflow", *spool_uploader.OPTIONAL} & sys.modules.keys()
for name in (*spool_uploader.OPTIONAL, "mlflow.types.llm"):
    importlib.import_module(name)
sys.exit(imported != {"mlflow"})
"""


def test_what_mlflow_can_do_without_is_not_imported_and_can_be(store):
    assert python(WITHOUT).returncode == 0
    assert runs(store).keys() == {"run"}
    assert spools() == []


def test_twenty_runs_in_a_moment_start_one_uploader(store, process, patient):
    before = len(spool_uploader._started)
    flow = tracking.Recorder("flow")
    for number in range(20):
        tracking.Recorder(f"child {number}", parent=flow.id).end("FINISHED")
    flow.end("FINISHED", wait=True)
    assert len(spool_uploader._started) - before == 1
    assert spools() == []
    assert len(runs(store)) == 21


def test_the_runs_of_a_flow_have_all_arrived_when_it_ends(store, process, patient):
    flow = tracking.Recorder("flow")
    assert python(STAGE, "1", **{environment.PARENT_RUN: flow.id}).returncode == 0
    flow.end("FINISHED", wait=True)
    assert spools() == []
    recorded_runs = runs(store)
    assert recorded_runs["stage 1"].data.tags["mlflow.parentRunId"] == recorded_runs["flow"].info.run_id
    assert history(store, recorded_runs["stage 1"], "loss") == [(1, 1.0)]


def test_a_stage_of_a_flow_that_was_killed_is_closed_while_the_flow_goes_on(store, process):
    flow = tracking.Recorder("flow")
    killed = KILLED.replace('Recorder("killed")', "Recorder('killed', parent=os.environ[environment.PARENT_RUN])")
    assert python(killed, **{environment.PARENT_RUN: flow.id}).returncode == -signal.SIGKILL
    for _ in range(300):
        if spools() == [flow._path]:
            break
        time.sleep(0.1)
    assert {name: run.info.status for name, run in runs(store).items()} == {"killed": "KILLED", "flow": "RUNNING"}
    flow.end("FINISHED", wait=True)


def test_an_outage_is_said_at_the_end_of_a_flow_and_waits_no_longer_than_it_must(away, process, capsys):
    flow = tracking.Recorder("flow")
    start = time.monotonic()
    flow.end("FINISHED", wait=True)
    assert time.monotonic() - start < run_store.PATIENCE_S
    said = capsys.readouterr().out
    assert "http://127.0.0.1:9" in said
    assert "runs wait in .ratchet/spool" in said


@pytest.mark.parametrize(("taken", "waits_s"), [(15, 15 * 0.1), (1, 0.1 + 1.0)])
def test_a_slow_store_is_waited_for_as_long_as_it_takes_something(monkeypatch, tmp_path, taken, waits_s):
    monkeypatch.setattr(run_store, "PATIENCE_S", 1.0)
    waiting = [tmp_path / f"{number}.jsonl" for number in range(15)]
    for path in waiting:
        path.touch()

    def take():
        for path in waiting[:taken]:
            time.sleep(0.1)
            path.unlink()

    store = threading.Thread(target=take)
    start = time.monotonic()
    store.start()
    spool_uploader.wait_for(waiting)
    waited = time.monotonic() - start
    store.join()
    assert waited >= waits_s
    assert sum(path.exists() for path in waiting) == 15 - taken
