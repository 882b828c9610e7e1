"""Levels of isolation: their detection, the refusals below them, and the calls that the system-call filter allows."""

import errno
import os
import platform
import struct
import sys
from pathlib import Path

import pytest

from tasks.io.sandbox import Level, levels, memory, probe, probes, process, run, seccomp
from tasks.io.sandbox.guest import landlock
from tests.io.sandbox.support import require, script, verdicts

WEAK = Level(1, "limits", "namespaces (unshare: Operation not permitted)", "sudo apt-get install -y bubblewrap")
GOOD = script("x = 1", "assert x")


@pytest.fixture
def weak_machine(monkeypatch):
    monkeypatch.setattr(levels, "probe", lambda: WEAK)


def test_this_machine_gives_level_two():
    assert probe().number == 2, probe()


@pytest.mark.usefixtures("weak_machine")
def test_model_written_programs_are_refused_below_level_two_before_any_is_read():
    with pytest.raises(
        RuntimeError, match=r"level 2; this machine gives level 1.*not permitted.*apt-get install -y bubblewrap"
    ):
        run(iter([GOOD]))


@pytest.mark.usefixtures("weak_machine")
def test_trusted_programs_run_at_level_one():
    assert [result.kind for result in run([GOOD, script("x = 0", "assert x")], minimum=1, trusted=True)] == [
        "passed",
        "assertion",
    ]


def test_level_one_is_not_to_be_had_by_accident():
    with pytest.raises(ValueError, match="trusted=True"):
        run([GOOD], minimum=1)


def test_more_than_there_is_is_refused():
    with pytest.raises(RuntimeError, match="need a sandbox of level 4"):
        run([GOOD], minimum=4)


def test_a_sandbox_that_leaks_is_not_used(monkeypatch):
    monkeypatch.setitem(probes.ATTEMPTS, "add two numbers", "escaped = 1 + 1")
    probes.prove.cache_clear()
    with pytest.raises(RuntimeError, match="does not hold: a program managed to add two numbers"):
        run([GOOD])


def test_bare_limits_would_not_pass_the_probes():
    probes.prove.cache_clear()
    with pytest.raises(RuntimeError, match="does not hold"):
        probes.prove("limits")


def test_the_probes_take_less_than_a_second_of_a_core():
    probes.prove.cache_clear()
    name, before = probe().name, os.times()
    probes.prove(name)
    assert sum(os.times()[:4]) - sum(before[:4]) < 1.0


def test_a_machine_without_namespaces_says_why_and_what_would_do(monkeypatch, tmp_path):
    def refuse(name, limits):
        raise RuntimeError("[Errno 1] unshare: Operation not permitted")

    switch = tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns"
    switch.parent.mkdir()
    switch.write_text("1\n")
    monkeypatch.setattr(levels, "Sandbox", refuse)
    monkeypatch.setattr(levels, "candidates", lambda: ("namespaces",))
    monkeypatch.setattr(levels, "SYSCTL", tmp_path)
    monkeypatch.setattr(levels, "CONTAINER_MARKS", ())
    level = levels.probe.__wrapped__()
    assert (level.number, level.name) == (1, "limits")
    assert "unshare: Operation not permitted" in level.missing
    assert level.remedy == "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    switch.write_text("0\n")
    assert levels.probe.__wrapped__().remedy.endswith("bubblewrap")


def test_another_system_than_linux_has_no_sandbox(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    level = levels.probe.__wrapped__()
    assert (level.number, level.missing) == (1, "Linux namespaces; not run: no sandbox")


def test_a_sandbox_that_cannot_start_says_so(monkeypatch):
    monkeypatch.setattr(process.launch, "namespaces", lambda *_: [sys.executable, "-c", "raise SystemExit('no luck')"])
    with pytest.raises(RuntimeError, match="no luck"):
        process.Sandbox("namespaces", probes.LIMITS)


# --- the filter, run by an interpreter of its own -----------------------------------------------------------------

ALLOWED = seccomp.ALLOW


def answer(
    machine: str, number: int, first: int = 0, second: int = 0, *, architecture: int | None = None, times: bool = True
) -> int:
    """Return the filter's decision on a system call."""
    data = struct.pack("=IIQ6Q", number, architecture or seccomp.ARCHITECTURES[machine], 0, first, second, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", seccomp.program(machine, times=times)))
    at, loaded = 0, 0
    while True:
        code, yes, no, operand = instructions[at]
        at += 1
        if code == seccomp.RETURN:
            return operand
        if code == seccomp.LOAD:
            loaded = struct.unpack_from("=I", data, operand)[0]
        else:
            passes = {
                seccomp.JUMP_EQUAL: loaded == operand,
                seccomp.JUMP_GREATER_OR_EQUAL: loaded >= operand,
                seccomp.JUMP_ANY_BIT: bool(loaded & operand),
            }
            at += yes if passes[code] else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_by_number_and_by_argument(machine):
    refused = seccomp.ERRNO | errno.EPERM
    for number in (*seccomp.REFUSED[machine].values(), *seccomp.COMMON_REFUSED.values()):
        assert answer(machine, number) == refused
    for number in seccomp.SELF_ONLY[machine]:
        assert (answer(machine, number, 0), answer(machine, number, 1)) == (ALLOWED, refused)
    for number in seccomp.SOCKETS[machine]:
        sockets = [answer(machine, number, family) for family in (1, 2, 10, 16, 17, 30, 40)]
        assert sockets == [ALLOWED] * 3 + [seccomp.ERRNO | errno.EAFNOSUPPORT] * 4
    fcntl = seccomp.FCNTL[machine]
    assert {answer(machine, fcntl, 3, command) for command in seccomp.FCNTL_REFUSED} == {refused}
    assert {answer(machine, fcntl, 3, command) for command in seccomp.FCNTL_GRANTED} == {seccomp.ERRNO}
    assert {answer(machine, fcntl, 3, command) for command in (0, 1, 2, 3, 4, 1030, 1031, 1032)} == {ALLOWED}
    for number in seccomp.TIMES[machine]:
        assert (answer(machine, number), answer(machine, number, times=False)) == (ALLOWED, refused)
    clone = seccomp.CLONE[machine]
    assert (answer(machine, clone, 17), answer(machine, clone, 0x10000000 | 17)) == (ALLOWED, refused)
    assert answer(machine, 435) == seccomp.ERRNO | errno.ENOSYS
    assert answer(machine, 0, architecture=0x40000003) == seccomp.KILL_PROCESS
    assert answer(machine, 0x40000000 | 1) == seccomp.ERRNO | errno.ENOSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_the_rest(machine):
    special = {*seccomp.REFUSED[machine].values(), *seccomp.COMMON_REFUSED.values(), 435, *seccomp.SOCKETS[machine]}
    known = range(seccomp.NEWEST + 1)
    assert all(answer(machine, number) == ALLOWED for number in known if number not in special)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_calls_that_the_filter_does_not_know_do_not_exist(machine):
    for number in (seccomp.NEWEST + 1, 512, 1000, 2**31):
        assert answer(machine, number) == seccomp.ERRNO | errno.ENOSYS


def test_a_machine_without_a_filter_has_no_level_two(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    level = levels.probe.__wrapped__()
    assert level.number == 1
    assert "there is no system-call filter for riscv64" in level.missing
    assert level.remedy == "run Ratchet on x86_64 or aarch64"


def test_a_kernel_that_takes_no_filter_has_no_level_two(monkeypatch):
    monkeypatch.setattr(seccomp, "program", lambda: bytes(8))  # a program that no kernel takes
    with pytest.raises(RuntimeError, match="prctl: Invalid argument"):
        process.Sandbox("namespaces", probes.LIMITS)


def test_a_level_says_what_stands(monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: 7)
    monkeypatch.setattr(levels, "candidates", lambda: ("namespaces",))
    level = levels.probe.__wrapped__()
    assert level.walls == ("own namespaces", "own root", "system-call filter", "Landlock 7")
    assert str(level) == f"2 (namespaces: {', '.join(level.walls)})"


def test_namespaces_without_landlock_are_not_level_two_but_bubblewrap_is(monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(levels, "candidates", lambda: ("namespaces",))
    monkeypatch.setattr(levels, "SYSCTL", Path("/nowhere"))
    monkeypatch.setattr(levels, "CONTAINER_MARKS", ())
    level = levels.probe.__wrapped__()
    assert (level.number, level.missing) == (1, "namespaces (namespaces did not start: this kernel has no Landlock)")
    assert level.remedy.endswith("bubblewrap")
    sandbox = levels.Sandbox
    monkeypatch.setattr(levels, "candidates", lambda: ("namespaces", "bubblewrap"))
    monkeypatch.setattr(
        levels, "Sandbox", lambda name, limits: Started() if name == "bubblewrap" else sandbox(name, limits)
    )
    assert str(levels.probe.__wrapped__()) == "2 (bubblewrap: own namespaces, own root, system-call filter)"


class Started:
    def close(self) -> None:
        pass


@pytest.mark.parametrize("bwrap", [None, "/usr/bin/bwrap"])
def test_namespaces_are_preferred(bwrap, monkeypatch):
    monkeypatch.setattr(levels.shutil, "which", lambda name: bwrap)
    assert levels.candidates()[0] == "namespaces"
    assert ("bubblewrap" in levels.candidates()) == bool(bwrap)


def test_a_kernel_that_does_not_tell_of_children_has_no_level_two(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    level = levels.probe.__wrapped__()
    assert level.number == 1
    assert "does not report the memory of child processes" in level.missing
    assert "CONFIG_PROC_CHILDREN" in level.remedy


@pytest.mark.skipif(sys.platform != "linux" or landlock.version() < 4, reason="this kernel's Landlock knows no network")
@pytest.mark.parametrize("name", ["namespaces", "bubblewrap"])
def test_landlock_stands_where_a_level_says_so(name):
    bind = script("import socket\nsocket.socket().bind(('127.0.0.1', 0))", "assert True")
    with process.Sandbox(require(name), probes.LIMITS) as sandbox:
        assert sandbox.judge(bind).detail == "PermissionError: [Errno 13] Permission denied"


def test_the_level_is_that_of_the_sandbox_in_use():
    assert verdicts(script("import os", "assert os.getppid() == 1"))[0].kind == "passed"
