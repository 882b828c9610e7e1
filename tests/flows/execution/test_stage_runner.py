"""One stage at a time, with what DVC says of it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from flows.execution import stage_runner
from flows.execution.dvc import cli
from flows.execution.stage_runner import StageRunner
from tasks.forkserver import protocol
from tests.flows.conftest import processes, wait_for


def test_a_stage_runs_then_is_unchanged_then_restored(workspace, capfd):
    assert StageRunner().reproduce("one", {}) == "ran"
    assert StageRunner().reproduce("one", {}) == "unchanged"
    workspace.path("one.txt").unlink()
    assert StageRunner().reproduce("one", {}) == "restored"
    assert capfd.readouterr().out == ""  # the stage itself printed nothing


def test_what_a_stage_prints_is_shown_and_kept(workspace, capfd):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: echo hello $GREETED && cp in.txt one.txt")
    StageRunner().reproduce("one", {"GREETED": "world"})
    assert capfd.readouterr().out == "  one │ hello world\n"
    assert "hello world" in workspace.path(".ratchet/logs/one.log").read_text()


def test_python_of_a_stage_is_the_one_that_runs_the_flow(workspace, capfd, monkeypatch):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: command -v python && cp in.txt one.txt")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    StageRunner().reproduce("one", {})
    assert capfd.readouterr().out.split()[-1].startswith(os.path.dirname(sys.executable))  # noqa: PTH120


def test_a_failure_quotes_the_last_lines_and_names_the_log(workspace):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: echo line 3 of the data is bad && exit 7")
    with pytest.raises(
        RuntimeError, match=r"stage one failed(.|\n)*one\.log(.|\n)*line 3 of the data is bad"
    ) as failure:
        StageRunner().reproduce("one", {})
    assert not isinstance(failure.value, stage_runner.Busy)


def test_what_dvc_itself_cannot_do_is_quoted_too(workspace):
    workspace.path("in.txt").unlink()
    with pytest.raises(RuntimeError, match=r"stage one failed(.|\n)*No such file or directory.*in\.txt"):
        StageRunner().reproduce("one", {})


def test_a_path_that_the_dvc_of_a_killed_flow_uses_is_busy_and_nothing_else_is(workspace):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: sleep 31.25; cp in.txt one.txt")
    other = subprocess.Popen([*cli.repro_command("one"), "--quiet"], start_new_session=True)
    wait_for(lambda: processes("sleep 31.25"))
    try:
        with pytest.raises(stage_runner.Busy):
            StageRunner().reproduce("one", {})
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()


def test_a_stage_starts_when_the_dvc_that_a_person_started_has_ended(workspace):
    free, shown = workspace.path("free"), []
    workspace.edit(
        "dvc.yaml", "cmd: cp in.txt one.txt", f"cmd: while [ ! -e {free} ]; do sleep 0.1; done; cp in.txt one.txt"
    )
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q", "two"], start_new_session=True) as other:
        wait_for(lambda: processes(str(free)))
        runner = StageRunner(lambda *line: shown.append(line))
        stage = threading.Thread(target=runner.reproduce, args=("side", {}))
        stage.start()
        wait_for(lambda: shown or workspace.path("side.txt").exists())
        free.touch()
        stage.join(120)
        assert other.poll() == 0  # with its second stage, which no lock of ours stopped
    said = f"DVC (process {other.pid}) works in this workspace. This stage starts when it has ended."
    assert shown == [("side", said)]
    assert workspace.path("side.txt").exists()


def test_a_stage_that_waits_for_dvc_does_not_start_once_the_flow_is_stopped(workspace, monkeypatch):
    monkeypatch.setattr(stage_runner.rwlock.StartedByHand, "running", lambda _: {1: "dvc repro"})
    waiting, failures = threading.Event(), []
    runner = StageRunner(lambda *_: waiting.set())

    def reproduce():
        try:
            runner.reproduce("one", {})
        except RuntimeError as error:
            failures.append(str(error))

    stage = threading.Thread(target=reproduce)
    stage.start()
    assert waiting.wait(30)
    with pytest.raises(KeyboardInterrupt), runner:
        raise KeyboardInterrupt
    stage.join(30)
    assert failures == ["stage one did not start: the flow is being stopped."]


@pytest.mark.parametrize(("seconds", "told"), [(0, True), (33.25, False)])
def test_a_fork_server_that_ends_before_the_run_is_told_of(capfd, monkeypatch, seconds, told):
    monkeypatch.delenv(protocol.SWITCH, raising=False)
    monkeypatch.setattr(stage_runner.client, "command", lambda _: ["sleep", str(seconds)])
    with StageRunner() as runner:
        runner.start_fork_server()
        if told:
            runner._fork_server.wait(30)
    assert (stage_runner.EARLY in capfd.readouterr().out) == told


def test_an_exception_ends_the_stages_at_work_and_lets_no_other_start(workspace):
    workspace.edit("dvc.yaml", "cmd: cp in.txt one.txt", "cmd: sleep 32.25; cp in.txt one.txt")
    failures = []
    runner = StageRunner()

    def work(stage: str) -> None:
        try:
            runner.reproduce(stage, {})
        except RuntimeError as error:
            failures.append(str(error))

    def interrupted() -> None:
        with runner:
            thread.start()
            wait_for(lambda: processes("sleep 32.25"))
            raise KeyboardInterrupt

    thread = threading.Thread(target=work, args=("one",))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join(10)
    work("side")
    assert processes("sleep 32.25") == []
    assert "stage one failed" in failures[0]
    assert "did not start" in failures[1]
    assert StageRunner().reproduce("side", {}) == "ran"  # a flow that failed stops no other of its process
