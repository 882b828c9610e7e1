"""Progress is shown, and the items pass unchanged."""

import io
import sys

import pytest

from tasks.core import environment
from tasks.io.system import progress
from tasks.io.system.progress import Status


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("items", [[], [1, 2, 3], range(4)])
def test_the_items_pass_through_unchanged(monkeypatch, items, terminal):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert list(progress.track(items, label="x")) == list(items)
    assert list(progress.track(iter(items), label="x")) == list(items)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_comes_now_and_then_with_the_time_that_is_left(clock, capsys):
    for _ in progress.track(range(10), label="tune@r0", unit="step"):
        clock[0] += 6
    lines = capsys.readouterr().out.splitlines()
    # 6 s a step and a line every 10 s at most: after steps 2, 4, 6, 8 and 10.
    assert lines == [
        "tune@r0: step 2 of 10, about 48 s left",
        "tune@r0: step 4 of 10, about 36 s left",
        "tune@r0: step 6 of 10, about 24 s left",
        "tune@r0: step 8 of 10, about 12 s left",
        "tune@r0: step 10 of 10",
    ]


def test_a_status_stands_beside_the_count_of_the_item_it_is_about(clock, capsys):
    done = []
    for item in progress.track(range(4), label="x", status=lambda: f"loss {done[-1]}"):
        clock[0] += 6
        done.append(item)
    assert capsys.readouterr().out.splitlines() == [
        "x: item 2 of 4, about 12 s left · loss 1",
        "x: item 4 of 4 · loss 3",
    ]


def test_minutes_are_minutes(clock, capsys):
    for step in progress.track(range(4), label="x"):
        clock[0] += 100 if step else 0
    assert "x: item 2 of 4, about 1 min 40 s left" in capsys.readouterr().out


def test_where_the_end_is_unknown_only_the_count_is_said(clock, capsys):
    for _ in progress.track(iter(range(4)), label="x"):
        clock[0] += 6
    assert capsys.readouterr().out == "x: item 2\nx: item 4\n"


def test_the_environment_says_how_often_a_line_comes(clock, capsys, monkeypatch):
    monkeypatch.setenv(environment.PROGRESS_S, "1")
    for _ in progress.track(range(3), label="x"):
        clock[0] += 2
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    "status",
    [
        Status("tune@r0", "step", 2, 10, 48.0, "loss 2.4716 · 2,800 tokens/s"),
        Status("compare lora", "trial", 3, 7, 605.0),
        Status("ingest", "row", 12),
        Status("evaluate@r0: base", "item", 10, 10, None, "loss 3"),
    ],
)
def test_a_line_is_read_back_as_what_it_tells(status):
    assert Status.parse(str(status)) == status


@pytest.mark.parametrize(
    "line", ["", "tune: ran in 3.0 s", "pretrain: domain loss 2.5 → 2.4", "step 3 of 4", "a: b 1 of"]
)
def test_other_lines_tell_no_progress(line):
    assert Status.parse(line) is None


def test_quick_work_says_nothing(capsys):
    list(progress.track(range(1000), label="x"))
    assert capsys.readouterr().out == ""


def test_a_line_is_said_at_once(capsys):
    progress.say("hello")
    assert capsys.readouterr().out == "hello\n"
