"""A full disk, a folder that cannot be written, servers that go away: one message, nothing half done, and the next run goes on."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from httpx import ConnectError

from flows.execution import ports, prefect_server, supervisor
from flows.execution.display import artifacts
from flows.execution.dvc import forecast
from tasks.io.runs import run_store, spool_uploader, tracking
from tests.flows.conftest import processes, wait_for
from tests.flows.test_pipeline import parents
from tests.flows.test_serve import asked, runs_of

# A mount of its own that ends with the command; no root is needed where the kernel lets users have namespaces.
SPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]


def namespaces() -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run([*SPACE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode == 0
    return False


needs_namespaces = pytest.mark.skipif(not namespaces(), reason="users have no mounts of their own here")


def within(workspace, script, **environment):
    """What came of a shell script that may mount what it likes; the workspace is its folder."""
    return subprocess.run(
        [*SPACE, script], cwd=workspace.folder, env=workspace.environment | environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


WAITING = (
    "dvc.yaml",
    "cmd: cp in.txt one.txt",
    "cmd: touch begun; while [ ! -e go ]; do sleep 0.1; done; cp in.txt one.txt",
)
"""The edit that lets the first stage say that it has begun, and wait."""
RATCHET = f"{sys.executable} -m flows.commands"


@needs_namespaces
def test_a_full_disk_is_one_message_and_more_room_is_all_that_it_takes(workspace, finished, prefect):
    fill = "touch near; head -c 9000000 /dev/zero > filler; mv near full; cp in.txt one.txt && rm filler"
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {fill}")
    # Its copy is made by then, and DVC can write no more of it.
    late = "cp in.txt side.txt; until [ -e full ]; do sleep 0.1; done"
    workspace.edit("dvc.yaml", "cmd: cp in.txt side.txt", f"cmd: {late}")
    script = f"""
        mkdir ../small && mount -t tmpfs -o size=8M none ../small
        cp -r . ../small && cd ../small
        {RATCHET} run && exit 9
        rm filler && mount -o remount,size=40M . && echo ---
        {RATCHET} run
        cat last.txt
    """
    done = within(workspace, script, PREFECT_API_URL=prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in done.stderr or "the disk is full" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    mended = done.stdout.split("---")[1]
    assert "one: ran" in mended
    assert "side: ran" in mended
    assert mended.endswith((finished / "last.txt").read_text())


@needs_namespaces
def test_a_folder_that_cannot_be_written_is_one_message(done, prefect):
    done.edit("params.yaml", "threads: 2", "threads: 1")
    script = f"""
        mount --bind . . && cd "$PWD" && mount -o remount,bind,ro .
        {RATCHET} run && exit 9
        echo --- && mount -o remount,bind,rw .
        {RATCHET} run
    """
    said = within(done, script, PREFECT_API_URL=prefect)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Traceback" not in said.stdout + said.stderr
    assert len(said.stderr.strip().splitlines()) == 1, said.stderr
    assert "ead-only" in said.stderr or "cannot record runs here" in said.stderr
    assert "one: ran" in said.stdout


def serve_mlflow(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    command = [
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--port",
        str(port),
    ]
    process = supervisor.start(
        [sys.executable, *command, "--host", "127.0.0.1", "--workers", "1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: answered(f"http://127.0.0.1:{port}/health"), seconds=600)
    return process


def answered(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.status == 200
    return False


def test_what_a_tracking_server_misses_while_it_is_gone_it_hears_later(store, tmp_path, monkeypatch):
    port = ports.free_port()
    first = serve_mlflow(tmp_path, port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(spool_uploader, "start", lambda: None)
    recorder = tracking.Recorder("run")
    recorder.metrics({"loss": 3.0}, 1)
    spool_uploader.deliver()
    assert spool_uploader.outage() == ""
    for pid in [*supervisor.descendants(first.pid), first.pid]:
        os.kill(pid, signal.SIGKILL)
    first.wait()
    recorder.metrics({"loss": 2.0}, 2)
    recorder.params(note="said while nobody listened")
    start = time.monotonic()
    spool_uploader.deliver()
    assert str(port) in spool_uploader.outage()
    assert time.monotonic() - start < 60  # and not the minutes that MLflow itself would try
    recorder.end("FINISHED")

    second = serve_mlflow(tmp_path, port)
    try:
        spool_uploader.upload()
        from mlflow import MlflowClient

        client = MlflowClient(f"http://127.0.0.1:{port}")
        (run,) = client.search_runs([run_store.experiment()])
        assert run.info.status == "FINISHED"
        assert run.data.params["note"] == "said while nobody listened"
        assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")] == [
            (1, 3.0),
            (2, 2.0),
        ]
    finally:
        supervisor.stop([second])
    assert not list(run_store.SPOOL.glob("*.jsonl"))


def test_a_flow_goes_on_when_its_prefect_server_is_restarted(workspace, finished, empty_prefect, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(shutil.copytree(empty_prefect, workspace.folder.parent / "prefect")))
    port = ports.free_port()
    first, url = prefect_server.start(port, ui=False)
    workspace.edit(*WAITING)
    process = workspace.start("flows.commands", "run", PREFECT_API_URL=url)
    wait_for(lambda: workspace.path("begun").exists(), workspace.printed, 300)
    for pid in [*supervisor.descendants(first.pid), first.pid]:
        os.kill(pid, signal.SIGKILL)
    first.wait()
    workspace.path("go").touch()
    time.sleep(3)  # the stage ends while no server answers
    second, _ = prefect_server.start(port, ui=False)
    try:
        assert process.wait(300) == 0, workspace.printed()
        assert "Done: 4 ran." in workspace.printed()
        assert workspace.path("last.txt").read_bytes() == (finished / "last.txt").read_bytes()
        assert [run.info.status for run in parents(workspace)] == ["FINISHED"]
    finally:
        supervisor.stop([second])


def test_a_prefect_server_that_stays_away_is_one_message_and_nothing_is_lost(
    workspace, finished, empty_prefect, prefect, monkeypatch
):
    monkeypatch.setenv("PREFECT_HOME", str(shutil.copytree(empty_prefect, workspace.folder.parent / "prefect")))
    first, url = prefect_server.start(ports.free_port(), ui=False)
    workspace.edit(*WAITING)
    impatient = {"PREFECT_CLIENT_MAX_RETRIES": "1", "PREFECT_API_URL": url}
    process = workspace.start("flows.commands", "run", **impatient)
    wait_for(lambda: workspace.path("begun").exists(), workspace.printed, 300)
    supervisor.stop([first])
    workspace.path("go").touch()
    assert process.wait(300) == 1, workspace.printed()
    assert f"Prefect's server at {url} does not answer any more" in workspace.printed()
    assert "Traceback" not in workspace.printed().rpartition("does not answer any more")[2]
    assert [run.info.status for run in parents(workspace)] == ["FAILED"]
    workspace.ratchet("run", PREFECT_API_URL=prefect)
    assert workspace.path("last.txt").read_bytes() == (finished / "last.txt").read_bytes()


def test_a_table_that_no_server_takes_hides_no_failure(monkeypatch, capsys):
    def refused(*_, **__):
        raise ConnectError("connection refused")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refused)
    outcomes = [artifacts.StageOutcome("one", "ran", 1.0), artifacts.StageOutcome("two", "failed", 1.0)]
    steps = [forecast.Step(name, "run", (), ()) for name in ("one", "two")]
    artifacts.show_outcomes(outcomes, steps, "a run")
    said = capsys.readouterr().out
    assert "Done: 1 ran, 1 failed." in said
    assert "its pages lack the table of this run" in said


def of_server(pid):
    """The Prefect server below a process."""
    for one in supervisor.descendants(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(one).cmdline()[1:4] == ["-m", prefect_server.PROGRAM, "server"]:
                return one
    return None


def test_a_server_of_ratchet_up_that_is_killed_is_started_again_and_serves(up):
    os.kill(of_server(up.pid), signal.SIGKILL)
    wait_for(lambda: "it is started again" in up.printed(), up.printed)
    wait_for(lambda: of_server(up.pid) and prefect_server.answers(up.api), up.printed, 300)
    asked = up.run("prefect", "deployment", "run", "pipeline/workstation", "--watch")
    assert "finished successfully" in asked.stdout, asked.stdout + asked.stderr + up.printed()


def test_a_flows_own_server_that_is_killed_is_started_again_and_the_flow_goes_on(workspace, finished):
    workspace.edit(*WAITING)
    process = workspace.start("flows.commands", "run")
    wait_for(lambda: workspace.path("begun").exists(), workspace.printed, 300)
    os.kill(of_server(process.pid), signal.SIGKILL)
    wait_for(lambda: "it is started again" in workspace.printed(), workspace.printed)
    workspace.path("go").touch()
    assert process.wait(300) == 0, workspace.printed()
    assert "Done: 4 ran." in workspace.printed()
    assert workspace.path("last.txt").read_bytes() == (finished / "last.txt").read_bytes()
    assert [run.info.status for run in parents(workspace)] == ["FINISHED"]
    assert list(workspace.home.iterdir()) == []


def started(pid, before):
    """The descendants of a process that were not there before, but for the uploader, which ends when nobody records."""
    found = []
    for one in set(supervisor.descendants(pid)) - before:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(psutil.Process(one).cmdline()))
    return [line for line in found if line and "tasks.io.runs.spool_uploader" not in line]


def test_cancelling_a_flow_run_ends_all_of_it_in_time_reads_killed_and_the_next_run_works(up):
    mark = f"sleep 36.{os.getpid()}"
    idle = set(supervisor.descendants(up.pid))
    with up.kept("dvc.yaml"):
        up.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {mark}; cp in.txt one.txt")
        asked = up.run("prefect", "deployment", "run", "pipeline/workstation")
        wait_for(lambda: processes(mark), lambda: asked.stdout + asked.stderr, 300)
        (flow_run,) = re.findall(r"UUID: (\S+)", asked.stdout)
        start = time.monotonic()
        cancelled = up.run("prefect", "flow-run", "cancel", flow_run)
        assert not cancelled.returncode, cancelled.stdout + cancelled.stderr
        # The stage, its DVC, its supervisor and the flow: all that had begun since.
        wait_for(lambda: not processes(mark) and not started(up.pid, idle), lambda: str(started(up.pid, idle)), 60)
        took = time.monotonic() - start
        assert took < 35, f"{took:.0f} s until all of it had gone"
        # MLflow hears of a run with the first delivery, which may come after its end.
        wait_for(lambda: [run.info.status for run in parents(up)][-1:] == ["KILLED"], seconds=60)
    again = up.run("prefect", "deployment", "run", "pipeline/workstation", "--watch").stdout
    assert "finished successfully" in again, again


def test_a_run_of_a_terminal_is_cancelled_in_prefect_too(up):
    mark = f"sleep 37.{os.getpid()}"
    before = {one["id"] for one in runs_of(up, "pipeline")}
    with up.kept("dvc.yaml"):
        up.edit("dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: {mark}; cp in.txt one.txt")
        run = up.start("flows.commands", "run")
        wait_for(lambda: processes(mark), up.printed, 300)
        (flow_run,) = {one["id"] for one in runs_of(up, "pipeline")} - before
        start = time.monotonic()
        cancelled = up.run("prefect", "flow-run", "cancel", flow_run)
        assert not cancelled.returncode, cancelled.stdout + cancelled.stderr
        assert run.wait(60) == 128 + signal.SIGTERM
        assert time.monotonic() - start < 35
        assert not processes(mark)
        assert "This run was cancelled in Prefect." in up.printed()
        (found,) = asked(up, "flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        assert found["state_type"] == "CANCELLED"
