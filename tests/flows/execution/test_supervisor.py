"""A supervised command, whatever becomes of whoever started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flows.execution import supervisor
from tests.flows.conftest import processes, wait_for

# A command that starts a child, a child in a session of its own, and an orphan; `sleep N` with a number of its own marks all.
FAMILY = "sleep {n} & setsid sleep {n} & (setsid sh -c 'sleep {n}; true' &) ; sleep {n}"


def family() -> tuple[list[str], str]:
    number = f"{100_000 + os.getpid() % 50_000}.{time.monotonic_ns() % 1_000_000}"
    return ["sh", "-c", FAMILY.format(n=number)], f"sleep {number}"


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_that_of_the_command(code):
    process = supervisor.start(["sh", "-c", f"exit {code}"])
    assert process.wait(10) == code


def test_a_command_killed_by_a_signal_reads_as_in_a_shell():
    assert supervisor.start(["sh", "-c", "kill -9 $$"]).wait(10) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_ends_every_descendant(number):
    command, mark = family()
    process = supervisor.start(command)
    wait_for(lambda: len(processes(mark)) >= 4)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert processes(mark) == []


def test_what_a_command_leaves_behind_ends_with_it():
    command, mark = family()
    process = supervisor.start(["sh", "-c", command[2].rpartition(";")[0] + "; exit 4"])
    assert process.wait(10) == 4
    assert processes(mark) == []


def test_nothing_outlives_a_parent_that_is_killed():
    command, mark = family()
    parent = subprocess.Popen(
        [sys.executable, "-c", f"from flows.execution import supervisor; supervisor.start({command!r}).wait()"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_for(lambda: len(processes(mark)) >= 4)
    parent.kill()
    parent.wait()
    wait_for(lambda: not processes(mark), lambda: str(processes(mark)), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells a command that its supervisor was shot")
def test_a_command_ends_with_a_supervisor_that_is_shot():
    mark = f"sleep {100_000 + os.getpid() % 50_000}.{time.monotonic_ns() % 1_000_000}"
    process = supervisor.start(mark.split())
    wait_for(lambda: [line for line in processes(mark) if line == mark])
    process.kill()
    process.wait()
    wait_for(lambda: not processes(mark), lambda: str(processes(mark)), 5)


def test_a_parent_that_died_before_the_first_look_is_noticed(monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setattr(os, "getpid", lambda: gone.pid)
    assert supervisor.start(["sleep", "60"]).wait(10) == 128 + signal.SIGTERM


def test_a_command_that_does_not_listen_is_killed():
    stubborn = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
    ]
    program = "from flows.execution import supervisor; import sys; supervisor.PATIENCE_S = 0.5; sys.exit(supervisor.main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program, *stubborn], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
