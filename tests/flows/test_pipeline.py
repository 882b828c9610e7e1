"""The flow in whole: the same files as plain DVC, and the truth about what became of every stage."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import accumulate
from types import SimpleNamespace
from unittest.mock import Mock

import mlflow
import pytest

from flows import pipeline
from flows.execution import prefect_server, stage_runner, supervisor
from flows.execution.dvc.forecast import Step
from tests.flows.conftest import processes, wait_for


def runs(workspace):
    """Every MLflow run of a workspace, the oldest first."""
    client = mlflow.MlflowClient(f"sqlite:///{workspace.path('mlflow.db')}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, order_by=["attributes.start_time"])


def parents(workspace):
    return [run for run in runs(workspace) if "mlflow.parentRunId" not in run.data.tags]


def test_importing_the_flow_imports_nothing_large_and_of_stages_their_config_alone(workspace):
    # lark: a grammar of web addresses, which jsonschema, and so Prefect, builds wherever its package is installed
    program = "import flows.pipeline, sys; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'mlflow', 'scipy', 'lark') or m.count('.') > 2 and m.startswith('tasks.stages.') and not m.endswith('.config')])"
    done = workspace.run("timeit", "-n1", "-r1", program)
    assert done.stdout.splitlines()[0] == "[]", done.stdout + done.stderr


def test_the_flow_leaves_the_lock_of_a_plain_repro_and_nothing_at_home(workspace, finished, prefect):
    said = workspace.ratchet("run", PREFECT_API_URL=prefect, RATCHET_CORES="2")
    assert "Done: 4 ran." in said
    assert workspace.lock == (finished / "dvc.lock").read_bytes()
    assert list(workspace.home.iterdir()) == []
    assert not workspace.run("dvc", "status", "--quiet").returncode
    (parent,) = parents(workspace)
    assert parent.info.status == "FINISHED"
    assert "prefect.flow_run_id" in parent.data.tags
    assert parent.info.run_name == "edited · 4 of 4 stages ran"
    assert parent.data.tags["ratchet.ran"] == "one, two, side, last"
    assert parent.data.tags["mlflow.source.name"] == "ratchet run"


@pytest.mark.parametrize("attempt", [1, pipeline.RETRIES + 1])
def test_a_stage_for_which_dvc_is_busy_to_the_last_has_failed_and_is_not_said_to_be_tried_again(
    monkeypatch, capsys, attempt
):
    def reproduce(stage, _env):
        raise stage_runner.Busy(f"{stage}: another DVC process holds a lock.")

    monkeypatch.setattr(
        pipeline,
        "runtime",
        SimpleNamespace(flow_run=SimpleNamespace(id="1"), task_run=SimpleNamespace(run_count=attempt)),
    )
    scheduler = SimpleNamespace(host=lambda _: None, allocation=lambda _: nullcontext([]))
    runner, view = SimpleNamespace(reproduce=reproduce), Mock(every_s=1.0)
    step = Step("tune", "run", ("it has not run yet",), ())
    if attempt == 1:
        with pytest.raises(stage_runner.Busy):
            pipeline.run_stage.fn(step, runner, scheduler, [], "parent", view)
    else:
        assert pipeline.run_stage.fn(step, runner, scheduler, [], "parent", view).is_failed()
    assert view.ended.called == (attempt > 1)
    assert ("Trying again" in capsys.readouterr().out) == (attempt == 1)


@pytest.mark.parametrize("cores", [1, 2])
def test_independent_stages_work_side_by_side_as_far_as_there_are_cores(workspace, prefect, cores):
    for stage in ("one", "side"):
        told = f"echo + >> told.txt; sleep 2; cp in.txt {stage}.txt; echo - >> told.txt"
        workspace.edit("dvc.yaml", f"cmd: cp in.txt {stage}.txt", f"cmd: {told}")
    workspace.ratchet("run", "one", "side", PREFECT_API_URL=prefect, RATCHET_CORES=str(cores))
    at_work = list(accumulate({"+": 1, "-": -1}[line] for line in workspace.path("told.txt").read_text().split()))
    assert (max(at_work), len(at_work)) == (cores, 4)


def test_where_nothing_changed_no_server_starts_and_cached_children_are_recorded(done):
    done.run("flows.commands", "tidy")
    before = done.lock
    said = done.ratchet("run")
    assert "Nothing changed: all 4 stages are up to date." in said
    assert done.lock == before
    assert not done.path(".ratchet/logs/prefect.log").exists()
    (parent,) = parents(done)
    children = [run for run in runs(done) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["dvc.stage"] for run in children} == {"one", "two", "side", "last"}
    assert {run.data.tags["ratchet.cached"] for run in children} == {"true"}
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert parent.info.run_name == "edited · nothing ran"
    assert parent.data.tags["ratchet.ran"] == "nothing"
    assert parent.data.metrics == {}


def test_only_what_must_is_asked_of_dvc(done, prefect):
    done.edit("params.yaml", "threads: 2", "threads: 1")
    done.path("side.txt").unlink()
    said = done.ratchet("run", PREFECT_API_URL=prefect)
    assert "one: compute.threads: 2 → 1" in said
    assert "side: restored" in said
    assert "Done: 1 ran, 1 restored, 2 unchanged." in said
    children = [run for run in runs(done) if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["dvc.stage"] for run in children} == {
        "two",
        "side",
        "last",
    }  # `one` is no stage of the runner's


def test_a_failing_stage_is_one_message_and_what_does_not_need_it_is_finished(workspace, prefect):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: echo row 3 is bad && exit 7")
    failed = workspace.run("flows.pipeline", PREFECT_API_URL=prefect)
    assert failed.returncode == 1
    assert "stage one failed" in failed.stderr
    assert "row 3 is bad" in failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    assert b"side:" in workspace.lock
    assert "Done: 1 ran, 1 failed, 2 not begun." in failed.stdout
    (parent,) = parents(workspace)
    assert (parent.info.status, parent.info.run_name) == ("FAILED", "edited · one failed")


def test_an_outage_of_mlflow_is_said_once_by_a_flow_that_runs_something(done, prefect):
    done.edit("params.yaml", "threads: 2", "threads: 1")
    said = done.ratchet("run", PREFECT_API_URL=prefect, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "Done: 1 ran, 3 unchanged." in said
    assert said.count("does not answer") == 1
    assert "runs wait in .ratchet/spool" in said


def test_whatever_a_stage_prints_and_whoever_stops_reading_the_run_goes_on(workspace, prefect):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", r"cmd: printf '\377\n' && cp in.txt one.txt")
    command = [sys.executable, "-m", "flows.commands", "run"]
    environment = workspace.environment | {"PREFECT_API_URL": prefect}
    with subprocess.Popen(command, cwd=workspace.folder, env=environment, stdout=subprocess.PIPE) as process:
        process.stdout.close()  # `ratchet run | head -0`
        process.wait(120)
    assert "\N{REPLACEMENT CHARACTER}" in workspace.path(".ratchet/logs/one.log").read_text()
    assert "Nothing changed: all 4 stages are up to date." in workspace.ratchet("run")


def test_a_stage_that_the_dvc_of_a_killed_flow_holds_is_tried_again_until_it_is_free(done, prefect):
    free = done.folder.parent / f"free-{os.getpid()}"
    held = f"while [ ! -e {free} ]; do sleep 0.1; done; cp in.txt side.txt"
    done.edit("dvc.yaml", "cmd: cp in.txt side.txt", f"cmd: {held}")
    other = done.start("flows.execution.dvc", "--wait-for-lock", "repro", "--quiet", "side")
    wait_for(lambda: processes(free.name))
    flow = done.start("flows.commands", "run", "side", PREFECT_API_URL=prefect)
    wait_for(lambda: "side: another DVC process holds a lock" in done.printed(), done.printed)
    free.touch()
    assert other.wait(60) == 0
    assert flow.wait(120) == 0, done.printed()
    assert "Done: 1 unchanged." in done.printed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_ends_the_stages_and_reads_killed(workspace, prefect, number):
    mark = f"sleep 33.{os.getpid()}{number}"
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {mark}; cp in.txt one.txt")
    process = workspace.start("flows.commands", "run", PREFECT_API_URL=prefect)
    wait_for(lambda: processes(mark), workspace.printed)
    mine = list(supervisor.descendants(process.pid))
    assert any("dvc" in command(pid) for pid in mine)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert processes(mark) == []
    # The uploader outlives a flow on purpose, for a moment.
    assert not [line for pid in mine if (line := command(pid)) and "tasks.io.runs.spool_uploader" not in line]
    assert "Traceback" not in workspace.printed()
    assert [run.info.status for run in parents(workspace)] == ["KILLED"]


def test_nothing_outlives_a_flow_that_is_killed_and_the_next_run_tells_of_it(workspace, finished):
    mark = f"sleep 34.{os.getpid()}"
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {mark}; cp in.txt one.txt")
    process = workspace.start("flows.pipeline", PREFECT_API_URL="http://127.0.0.1:9/api")  # where nobody answers
    wait_for(lambda: processes(mark), workspace.printed)
    assert "this run starts its own" in workspace.printed()
    mine = [process.pid, *supervisor.descendants(process.pid)]
    assert any(f"{prefect_server.PROGRAM} server" in command(pid) for pid in mine)
    process.kill()
    process.wait()
    wait_for(lambda: not [pid for pid in mine if command(pid)], lambda: str([command(pid) for pid in mine]), 15)

    workspace.edit("dvc.yaml", f"cmd: {mark}; cp in.txt one.txt", "cmd: cp in.txt one.txt")
    workspace.run("dvc", "repro", "--quiet")
    workspace.ratchet("run")
    assert workspace.lock == (finished / "dvc.lock").read_bytes()
    assert [run.info.status for run in parents(workspace)] == ["KILLED", "FINISHED"]


def command(pid):
    """The command line of a living process."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:  # noqa: PTH123
            return file.read().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("params.yaml", "threads: 2", "threads: none", "params.yaml:2: compute.threads"),
        ("params.yaml", "accumulation:", "acumulation:", "Did you mean accumulation?"),
        ("dvc.yaml", "outs: [one.txt]", "outs: [one.txt", "dvc.yaml"),
        ("dvc.yaml", "deps: [one.txt, code.py]", "deps: [one.txt, code.py, last.txt]", "wait for each other"),
    ],
)
def test_bad_input_is_one_message_before_anything_starts(workspace, name, old, new, told):
    workspace.edit(name, old, new)
    failed = workspace.run("flows.pipeline")
    assert failed.returncode == 1
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not workspace.path(".ratchet/logs").exists()


def test_a_store_that_cannot_be_written_is_told_before_anything_starts(workspace):
    workspace.path("mlflow.db").write_text("this is no database, and too long to be an empty one " * 20)
    failed = workspace.run("flows.pipeline")
    assert failed.returncode == 1
    assert "mlflow.db: MLflow cannot record runs here" in failed.stderr


def test_a_stage_that_dvc_yaml_does_not_have_is_reported(done):
    failed = done.run("flows.pipeline", "sdie")
    assert "Did you mean side?" in failed.stderr
