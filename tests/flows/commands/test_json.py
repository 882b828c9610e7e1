"""`--json`: one object on stdout, a report as it is documented or the error, whatever else is said meanwhile."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from flows import commands
from flows.commands import _as_json, _comparisons, _reports, _schema
from flows.commands._exit_codes import ExitCode
from flows.execution.dvc import forecast
from tasks.io.system import progress
from tests.flows.conftest import ROOT


def is_of(record, values):
    """Return True if JSON values are a record of this type, no key more and none less."""
    return _as_json.plain(TypeAdapter(record).validate_python(values)) == values


def failed(done):
    """The error that a command printed."""
    assert done.returncode != 0
    values = json.loads(done.stdout)
    assert is_of(_reports.Failure, values)
    assert values["error"]["exit_code"] == done.returncode
    return values["error"]


@pytest.fixture
def bare(done):
    """A finished workspace without a speed to measure: its stages are of shell."""
    return done


@pytest.mark.parametrize(
    "command",
    [("plan",), ("status",), ("methods", "adapters"), ("doctor", "--gpus", "2"), ("verify", "--no-measure")],
    ids=lambda command: command[0],
)
def test_a_report_is_what_its_schema_says(bare, command):
    values = json.loads(bare.ratchet(*command, "--json"))
    assert is_of(_schema.REPORTS[command[0]], values)


def test_every_command_with_json_has_a_documented_report():
    import inspect

    with_json = {
        name for name in commands.full_names() if "as_json" in inspect.signature(commands.function(name)).parameters
    }
    assert with_json == set(_schema.REPORTS)
    assert with_json >= {"plan", "status", "doctor", "methods", "compare", "why", "verify"}


def test_a_report_of_logs_is_what_its_schema_says(capsys):
    logs = ROOT / "tests/flows/experiments/data/logs"
    pair = [str(logs / f"sums-{name}.eval") for name in ("small", "large")]
    with pytest.raises(SystemExit) as end:
        commands.main(["compare-logs", *pair, "--json"])
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    assert is_of(_comparisons.CompareLogsReport, json.loads(said.out))


def test_a_report_whose_checks_do_not_hold_is_whole_and_tells_by_its_exit_code(bare):
    bare.path("last.txt").write_text("edited\n")
    done = bare.run("flows.commands", "verify", "--no-measure", "--json")
    assert done.returncode == ExitCode.DOES_NOT_HOLD
    checks = json.loads(done.stdout)["checks"]
    assert [check for check in checks if not check["holds"]]


def test_a_setting_that_is_wrong_is_told_by_file_line_and_remedy(bare):
    bare.edit("params.yaml", "threads: 2", "thread: 2")
    error = failed(bare.run("flows.commands", "plan", "--json"))
    assert error["exit_code"] == ExitCode.FAILED
    assert error["command"] == "ratchet plan --json"
    assert error["problems"] == [
        {
            "where": "params.yaml:2",
            "what": "compute.thread: there is no such key.",
            "remedy": "Did you mean threads?",
        }
    ]


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("plan", "sdie"), "dvc.yaml has no stage 'sdie'."),
        (("methods", "lorra"), "There is no method"),
        (("why", "1", "2"), "There is no version '1'."),
        (("compare", "lora"), "not there yet."),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_error_says_what_and_what_would_do(bare, command, what):
    error = failed(bare.run("flows.commands", *command, "--json"))
    assert error["exit_code"] == ExitCode.FAILED
    (problem,) = error["problems"]
    assert what.partition(" method")[0] in problem["what"]
    assert problem["remedy"]
    assert problem["what"] in error["message"]


@pytest.mark.parametrize("arguments", [["plan", "--json", "--no-such"], ["stauts", "--json"], ["why", "1", "--json"]])
def test_a_wrong_call_is_an_object_too(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        commands.main(arguments)
    assert end.value.code == ExitCode.WRONG_CALL
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["problems"][0]["remedy"].startswith("ratchet ")
    assert error["problems"][0]["remedy"].endswith("--help")


@pytest.mark.parametrize("raised", [ValueError, ZeroDivisionError, None])
def test_no_error_tells_the_password_of_an_address(raised, monkeypatch, capsys):
    address = "https://me:planted@host/store"

    def fail(_targets):
        raise raised(address)

    monkeypatch.setattr(forecast, "plan", fail)
    with pytest.raises(SystemExit):
        commands.main(["plan", address, "--json", *(() if raised else ("--no-such", address))])
    said = capsys.readouterr().out
    assert "host/store" in said
    assert "planted" not in said


def test_what_is_said_meanwhile_goes_to_stderr(bare, monkeypatch, capfd):
    def talk(_targets):
        progress.say("waiting …")
        commands.os.system("echo from another process")
        return []

    monkeypatch.setattr(forecast, "plan", talk)
    with pytest.raises(SystemExit) as end:
        commands.main(["plan", "--json"])
    assert end.value.code == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == {"stages": [], "seconds": None}
    assert "waiting …" in said.err
    assert "from another process" in said.err


def test_a_bug_is_an_object_and_a_traceback(bare, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "plan", lambda _targets: 1 / 0)
    with pytest.raises(SystemExit) as end:
        commands.main(["plan", "--json"])
    assert end.value.code == ExitCode.FAILED
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["message"].startswith("ZeroDivisionError: division by zero.")
    assert "Traceback" in said.err


def test_numbers_that_are_not_finite_are_null():
    values = _as_json.plain(_comparisons.Interval(1.0, -math.inf, math.nan))
    assert json.dumps(values, allow_nan=False) == '{"value": 1.0, "low": null, "high": null}'
    diverged = _as_json.plain(_comparisons.Interval(math.inf, math.inf, math.inf))
    assert TypeAdapter(_comparisons.Interval).validate_python(diverged).value is None, "its type says so"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("params.yaml:12: tune.rank: too low. Raise it.", [("params.yaml:12", "tune.rank: too low.", "Raise it.")]),
        ("a.yaml:1: x: bad\nb.yaml:2: y: worse", [("a.yaml:1", "x: bad", None), ("b.yaml:2", "y: worse", None)]),
        ("stage tune@r0 failed. The last lines:\n    one\n    two", [("ratchet run", "stage tune@r0 failed.", "The last lines:\n    one\n    two")]),
        ("compute.processes: one alone. Set it to 1.", [("compute.processes", "one alone.", "Set it to 1.")]),
        ("MLFLOW_TRACKING_URI=x: no store. Unset it.", [("MLFLOW_TRACKING_URI=x", "no store.", "Unset it.")]),
        ("port 80 is taken", [("ratchet run", "port 80 is taken", None)]),
    ],
)  # fmt: skip
def test_a_message_is_taken_apart(message, expected):
    problems = _as_json.problems(message, "ratchet run")
    assert [(problem.where, problem.what, problem.remedy) for problem in problems] == expected


@pytest.mark.parametrize("is_full", [False, True], ids=["a reader that ended", "a full disk"])
def test_what_reads_the_object_may_be_gone(is_full):
    command = [sys.executable, "-m", "flows.commands", "methods", "--json"]
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("wb") if is_full else os.fdopen(write, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert done.returncode == ExitCode.FAILED
    which = f"the disk is full (the system does not say where; the disk of {ROOT} has "
    assert done.stderr.startswith(which) if is_full else not done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_streams_that_are_closed_lead_nowhere(closed, options, tmp_path):
    """A lock or a database would have their numbers, and get what is printed."""
    script = tmp_path / "closed.py"
    script.write_text(
        "import os, sys\n"
        f"for number in {closed}: os.close(number)\n"
        f"os.execv(sys.executable, [sys.executable, '-m', 'flows.commands', *{['methods', 'adapters', *options]}])\n"
    )
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert bool(done.stdout) is (1 not in closed)


def test_the_null_device_has_the_numbers_of_closed_streams(tmp_path):
    code = (
        "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None\n"
        "from flows.commands import _terminal; _terminal.open_closed_streams()\n"
        "os.write(0, os.readlink('/proc/self/fd/1').encode()); print(1); print(2, file=sys.stderr)\n"
        "os.write(0, f' {os.get_inheritable(1)} {os.get_inheritable(2)}'.encode())"
    )
    said = tmp_path / "said"
    with said.open("w") as file:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdin=file, check=True)
    assert said.read_text() == "/dev/null True True"
