"""A lock belongs to one living process of this machine, or to another machine until someone says otherwise."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.io.system import locks

LOCK = Path("locks/stage.lock")
HOLD = "from tasks.io.system import locks; import pathlib, time\nwith locks.exclusive(pathlib.Path('locks/stage.lock')): print(1, flush=True); time.sleep(60)"


@pytest.fixture
def other():
    """Another process that holds the lock."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_the_second_is_refused_with_the_number_of_the_first(other):
    with pytest.raises(locks.Taken, match=f"process {other.pid}"), locks.exclusive(LOCK):
        pass
    held = locks.held(LOCK)
    assert held
    assert held.pid == str(other.pid)


def test_a_lock_is_given_back(tmp_path):
    for _ in range(2):
        with locks.exclusive(LOCK):
            assert locks.owner(LOCK).pid == str(os.getpid())
    assert locks.held(LOCK) is None
    assert LOCK.read_text() == ""


def test_a_dead_process_of_this_machine_loses_its_lock(other):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert LOCK.read_text().startswith(str(other.pid))
    assert locks.held(LOCK) is None
    with locks.exclusive(LOCK):
        pass


def test_who_only_looks_is_in_nobodys_way(tmp_path):
    looking = "from tasks.io.system import locks; import pathlib\nprint(1, flush=True)\nwhile True: locks.held(pathlib.Path('locks/stage.lock'))"
    with locks.exclusive(LOCK):
        pass
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", looking], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        process.stdout.readline()
        for _ in range(300):
            with locks.exclusive(LOCK):
                pass
        process.kill()


def test_a_lock_that_nobody_made_is_held_by_nobody(tmp_path):
    assert locks.held(tmp_path / "none.lock") is None
    assert not (tmp_path / "none.lock").exists()


def test_a_claim_of_another_machine_stands_until_it_is_taken_away():
    LOCK.parent.mkdir()
    LOCK.write_text("77 elsewhere some-other-kernel")
    with pytest.raises(locks.Taken, match="process 77 of elsewhere"), locks.exclusive(LOCK):
        pass
    assert locks.held(LOCK) == locks.Owner("77", "elsewhere", "some-other-kernel")
    LOCK.unlink()
    with locks.exclusive(LOCK):
        pass


@pytest.mark.parametrize("same", ["host", "kernel"])
def test_a_restarted_machine_and_another_container_of_it_are_this_machine(monkeypatch, same):
    LOCK.parent.mkdir()
    with locks.exclusive(LOCK):
        _, host, boot = LOCK.read_text().split()
    LOCK.write_text(f"77 {host} another-boot" if same == "host" else f"77 a-container {boot}")
    with locks.exclusive(LOCK):
        pass
