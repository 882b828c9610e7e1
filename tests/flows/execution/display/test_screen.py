"""The progress of a run on a terminal, and as lines elsewhere."""

import io

import pytest
from rich.console import Console

from flows.execution.cost.estimates import Range, StageEstimate
from flows.execution.display import screen
from flows.execution.display.screen import Lines, Screen, sparkline
from flows.execution.dvc.forecast import Step

NAMES = ["fetch", "ingest", "tune@r0", "evaluate@r0"]


def expects(low, high):
    return StageEstimate(Range(low, high), None, None, "equal settings", 1)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    return now


def drawn(view, height=10, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view.table(height, width))
    return console.file.getvalue().splitlines()


def test_each_stage_has_a_row_with_its_state_progress_and_time(clock, capsys):
    view = Screen(NAMES, {name: expects(40, 70) for name in NAMES})
    view.passed("fetch")
    view.begun("ingest", "it has not run yet")
    clock[0] += 3
    view.ended("ingest", "ran", 3.0)
    view.begun("tune@r0", "params.yaml: tune.seed")
    for step, loss in ((10, 3.5), (20, 3.0), (50, 2.5)):
        view.said("tune@r0", f"tune@r0: step {step} of 100, about 1 min 05 s left · loss {loss:.4f}")
    view.said("tune@r0", "trained: 100 steps")
    clock[0] += 20
    head, *rows = drawn(view)
    assert head == "2 of 4 stages · 23 s · about 1.8–2.2 min left"
    assert [row.split()[:2] for row in rows] == [["ingest", "ran"], ["tune@r0", "running"], ["evaluate@r0", "waiting"]]
    assert rows[0].split()[-2:] == ["3.0", "s"]
    assert "step 50 of 100, about 1 min 05 s left" in rows[1]
    assert "loss 2.5000 █▅▁" in rows[1]
    assert "40–70 s" in rows[2]
    assert capsys.readouterr().out.splitlines() == [
        "ingest: it has not run yet",
        "tune@r0: params.yaml: tune.seed",
        "  tune@r0 │ trained: 100 steps",
    ]


def test_a_stage_without_progress_shows_how_long_it_has_run(clock):
    view = Screen(["ingest"], {})
    view.begun("ingest", "")
    clock[0] += 95
    head, row = drawn(view)
    assert head == "0 of 1 stages · 1 min 35 s", "no time is left that nobody knows"
    assert row.split() == ["ingest", "running", "1", "min", "35", "s"]


def test_a_low_terminal_shows_what_runs_and_counts_the_rest(clock):
    names = [f"s{number}" for number in range(9)]
    view = Screen(names, {})
    for name in names[:5]:
        view.ended(name, "ran", 1.0)
    view.begun("s5", "")
    view.ended("s2", "failed", 1.0)
    _, *rows, rest = drawn(view, height=4)
    assert [row.split()[0] for row in rows] == ["s2", "s5", "s6", "s7"]
    assert rest == "and 5 more"


def test_text_of_a_stage_is_no_markup(clock):
    view = Screen(["[red]x[/red]"], {})
    assert "[red]x[/red]" in drawn(view)[1]


@pytest.mark.parametrize(("values", "bars"), [([1.0], "▁"), ([2, 2, 2], "▁▁▁"), ([0, 7], "▁█"), ([3, 2, 1], "█▅▁")])
def test_a_sparkline_goes_from_the_least_to_the_greatest(values, bars):
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "CI": "true"}, False),
    ],
)
def test_a_screen_is_for_terminals(monkeypatch, terminal, environment, wanted):
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(screen.sys.stdout, "isatty", lambda: terminal)
    assert screen.is_wanted() is wanted


def test_elsewhere_every_event_is_a_line(capsys, monkeypatch):
    monkeypatch.setattr(screen, "is_wanted", lambda: False)
    with screen.shown([Step("one", "run", ("new",), ())]) as view:
        assert isinstance(view, Lines)
        view.begun("one", "new")
        view.said("one", "one: step 1 of 2, about 5 s left")
        view.ended("one", "ran", 1.25)
        view.passed("two")
    assert capsys.readouterr().out.splitlines() == [
        "one: new",
        "  one │ one: step 1 of 2, about 5 s left",
        "one: ran in 1.2 s",
    ]


def test_the_screen_is_drawn_and_removed(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(screen, "is_wanted", lambda: True)
    monkeypatch.setattr(screen.estimates, "for_stages", lambda stages: {})
    monkeypatch.setattr("rich.console.Console", lambda: Console(file=stream, force_terminal=True, width=80, height=20))
    with screen.shown([Step("one", "run", (), ())]) as view:
        view.begun("one", "new")
        view.said("one", "one: step 1 of 2, about 5 s left")
    text = stream.getvalue()
    assert "0 of 1 stages" in text
    assert "step 1 of 2" in text
    assert text.endswith("\x1b[2K"), "the last thing is that its lines are cleared"


def test_a_stage_whose_progress_is_complete_shows_how_long_it_works_on(clock):
    view = Screen(["tune@r0"], {"tune@r0": expects(0.1, 0.4)})
    view.begun("tune@r0", "")
    view.said("tune@r0", "tune@r0: step 10 of 10")
    clock[0] += 70
    head, row = drawn(view)
    assert "left" not in head, "no time is left that rounds to nothing"
    assert "step 10 of 10 · 1 min 10 s" in row


@pytest.mark.parametrize("view", [Lines(), Screen(["report", "tune@r0"], {})])
def test_the_words_that_end_a_run_are_not_shown_twice(view, capsys):
    view.begun("report", "new")
    view.said("report", "Verdict: better")
    view.said("tune@r0", "trained: 100 steps")
    assert capsys.readouterr().out.splitlines() == ["report: new", "  tune@r0 │ trained: 100 steps"]


def test_a_silent_stage_is_told_to_be_at_work(clock, capsys):
    view = Lines()
    view.begun("ingest", "new")
    view.begun("tune@r0", "new")
    clock[0] += 50
    view.said("tune@r0", "loading")
    clock[0] += 15
    view.break_silence()
    view.break_silence()
    clock[0] += 60
    view.ended("ingest", "ran", 125.0)
    view.break_silence()
    assert capsys.readouterr().out.splitlines() == [
        "ingest: new",
        "tune@r0: new",
        "  tune@r0 │ loading",
        "ingest: running for 1 min 05 s",
        "ingest: ran in 125.0 s",
        "tune@r0: running for 2 min 05 s",
    ]


def test_silence_is_broken_while_a_run_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(screen, "is_wanted", lambda: False)
    monkeypatch.setattr(screen, "SILENT_S", 0.02)
    with screen.shown([Step("one", "run", (), ())]) as view:
        view.begun("one", "new")
        screen.time.sleep(0.2)
    assert "one: running for 0 s" in capsys.readouterr().out


def test_time_that_was_left_long_ago_is_not_shown(clock):
    view = Screen(["tune@r0"], {})
    view.begun("tune@r0", "")
    view.said("tune@r0", "tune@r0: step 2 of 10, about 40 s left")
    clock[0] += 61
    assert "step 2 of 10 · 1 min 01 s" in drawn(view)[1]


def test_a_narrow_terminal_has_a_line_for_each_stage(clock):
    view = Screen(NAMES, {name: expects(40, 70) for name in NAMES})
    for name in NAMES:
        view.begun(name, "")
        view.said(name, f"{name}: step 50 of 100, about 1 min 05 s left · loss 2.5000")
    lines = drawn(view, width=80)
    assert len(lines) == 1 + len(NAMES)
    assert all("running  step 50 of 100, about 1 min 05 s left  loss 2.50 ▁" in line for line in lines[1:])
