"""Exit codes mean the same in all commands."""

import os
import signal
import time

import pytest

from flows import commands
from flows.commands._exit_codes import MEANINGS, ExitCode
from flows.execution import cancellation
from flows.execution.dvc import forecast
from tests.flows.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in dvc itself


def code_of(*arguments):
    with pytest.raises(SystemExit) as end:
        commands.main(arguments)
    return end.value.code


def test_each_code_is_documented():
    assert MEANINGS.keys() == set(ExitCode)
    page = (ROOT / "docs/pages/reference/exit-codes.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code:d} | {meaning} |" in page


def test_done(capsys):
    assert code_of("methods", "selectors") == ExitCode.DONE == 0
    assert code_of("--help") == ExitCode.DONE


@pytest.mark.parametrize(
    "command", [("plan",), ("run",), ("verify",), ("rounds", "2"), ("init", "rows.jsonl"), ("use", "x")]
)
def test_failed(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert code_of(*command) == ExitCode.FAILED == 1
    said = capsys.readouterr()
    assert said.err.strip()
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", [("run", "no-such"), ("plan", "no-such"), ("why", "8", "9"), ("verify", "no-such")])
def test_a_name_that_this_workspace_does_not_have_is_no_wrong_call(command, workspace, capsys):
    assert code_of(*command) == ExitCode.FAILED
    assert "no-such" in (said := capsys.readouterr().err) or "'8'" in said


@pytest.mark.parametrize(
    "command", [("plan", "--no-such"), ("no-such",), ("rounds", "0"), ("why", "1"), ("ui", "--port", "x"), ()]
)
def test_wrong_call(command, capsys):
    assert code_of(*command) == ExitCode.WRONG_CALL == 2


def test_does_not_hold(workspace, monkeypatch, capsys):
    workspace.path("params.yaml").write_text("compute: 3\n")
    assert code_of("doctor") == ExitCode.DOES_NOT_HOLD == 3


def test_interrupted(workspace, monkeypatch, capsys):
    def interrupt(_targets):
        raise KeyboardInterrupt

    monkeypatch.setattr(forecast, "plan", interrupt)
    assert code_of("plan") == ExitCode.INTERRUPTED == 130
    assert code_of("plan", "--json") == ExitCode.INTERRUPTED


def wait_while_killed():
    """A command that works through a plain `kill`."""
    with cancellation.handled():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_terminated(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            wait_while_killed()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == ExitCode.TERMINATED == 143
