"""No answer is believed that its question cannot have led to, and the end of a process has one reason."""

import os
import signal

import pytest

from tasks.io.sandbox.connection import Connection, Failed
from tasks.io.sandbox.guest.frames import pack, unpack
from tasks.io.sandbox.guest.program import PRINTED_TOO_MUCH
from tasks.io.sandbox.records import Limits


@pytest.fixture
def connect():
    """Return a connection to a process that is nowhere: its status, and the memory it holds."""
    pipes = [*os.pipe(), *os.pipe()]

    def to(status="running", held=0):
        return Connection(Limits(memory_mb=1), pipes[1], pipes[2], lambda: status, lambda: held)

    yield to
    for end in pipes:
        os.close(end)


def executed(connection, answer):
    """What comes of a request where `answer` makes the payload of its token."""
    connection.ask = lambda request: answer(unpack(request[4:])[0])
    try:
        return connection.execute("1 + 1", "eval", "<tests>").value
    except Failed as failure:
        return failure.kind


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda token: pack(token, "", "", "", "", "2"), "2"),
        (lambda token: pack("0" * len(token), "", "", "", "", "2"), "evaded"),  # written in advance
        (lambda token: pack(token, "", "", "", "2"), "evaded"),
        (lambda token: pack(token, "", "", "", "", "2", ""), "evaded"),
        (lambda token: pack(token, "", "assertion", "", "", "2"), "evaded"),  # a success has no kind
        (lambda token: pack(token, "run", "", "", "", ""), "evaded"),
        (lambda token: pack(token, "later", "exception", "", "", ""), "evaded"),
        (lambda token: pack(token, "", "", "", "", "2").replace(b"2", b"\xff"), "evaded"),
    ],
)
def test_an_answer_is_that_of_its_question_or_forged(connect, answer, result):
    assert executed(connect(), answer) == result


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("0 0.1", "evaded"),
        ("3 0.1", "evaded"),
        (f"{PRINTED_TOO_MUCH} 0.1", "killed"),
        (f"{-signal.SIGSEGV} 0.1", "killed"),
        (f"{-signal.SIGKILL} 0.1", "killed"),
        (f"{-signal.SIGKILL} 9.0", "timeout"),
        (f"{-signal.SIGXCPU} 4.0", "timeout"),
        ("-40 0.1", "killed"),  # a real-time signal, which has no name
    ],
)
def test_the_end_of_a_process_has_its_reason(connect, status, kind):
    assert connect(status).cause_of_end().kind == kind


def test_processes_that_hold_too_much_together_are_a_failure(connect):
    connect(held=1 << 20).check([])
    with pytest.raises(Failed) as failure:
        connect(held=(1 << 20) + 1).check([])
    assert failure.value.kind == "memory"


def test_a_process_that_has_ended_without_an_answer_is_noticed(connect):
    connect(status="0 0.1").check([7])  # its answer is still to be read
    with pytest.raises(Failed):
        connect(status="0 0.1").check([])
