"""Which isolation there is, what is refused without it, and what the system-call filter lets through."""

import errno
import struct
import sys

import pytest

from tasks.io.sandbox import Level, levels, probe, probes, process, run, seccomp
from tests.io.sandbox.support import script, verdicts

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
    assert [one.outcome for one in run([GOOD, script("x = 0", "assert x")], minimum=1, trusted=True)] == [
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


def test_the_probes_take_less_than_a_second(benchmark_clock):
    probes.prove.cache_clear()
    assert benchmark_clock(lambda: probes.prove(probe().name)) < 1.0


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
    monkeypatch.setattr(
        process.launch, "namespaces", lambda limits: [sys.executable, "-c", "raise SystemExit('no luck')"]
    )
    with pytest.raises(RuntimeError, match="no luck"):
        process.Sandbox("namespaces", probes.LIMITS)


@pytest.fixture
def benchmark_clock():
    import time

    def seconds(function):
        start = time.monotonic()
        function()
        return time.monotonic() - start

    return seconds


# --- the filter, run by an interpreter of its own -----------------------------------------------------------------

ALLOWED = seccomp.ALLOW


def answer(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    """What the filter says to a system call."""
    data = struct.pack("=IIQ6Q", number, architecture or seccomp.ARCHITECTURES[machine], 0, first, 0, 0, 0, 0, 0)
    instructions = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
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
    sockets = [answer(machine, seccomp.SOCKET[machine], family) for family in (1, 2, 10, 16, 17, 40)]
    assert sockets == [ALLOWED] * 3 + [seccomp.ERRNO | errno.EAFNOSUPPORT] * 3
    clone = seccomp.CLONE[machine]
    assert (answer(machine, clone, 17), answer(machine, clone, 0x10000000 | 17)) == (ALLOWED, refused)
    assert answer(machine, 435) == seccomp.ERRNO | errno.ENOSYS
    assert answer(machine, 0, architecture=0x40000003) == seccomp.KILL_PROCESS
    assert answer(machine, 0x40000000 | 1) == seccomp.ERRNO | errno.ENOSYS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_the_rest(machine):
    special = {*seccomp.REFUSED[machine].values(), *seccomp.COMMON_REFUSED.values(), 435, seccomp.SOCKET[machine]}
    assert all(answer(machine, number) == ALLOWED for number in range(460) if number not in special)


def test_an_unknown_machine_has_no_filter():
    assert seccomp.program("riscv64") == b""


def test_the_level_is_that_of_the_sandbox_in_use():
    assert verdicts(script("import os", "assert os.getppid() == 1"))[0].outcome == "passed"
