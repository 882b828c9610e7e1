"""Show the progress of a run: one screen that is drawn anew on a terminal, lines anywhere else."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

from flows.execution.cost import estimates
from flows.execution.cost.estimates import StageEstimate
from flows.execution.dvc import forecast
from flows.execution.stage_runner import print_line
from tasks.io.system import progress, timer
from tasks.io.system.progress import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

State = Literal["waiting", "running", "ran", "restored", "unchanged", "failed", "not begun"]
LOSS = re.compile(r"\bloss (\d+\.\d+)")
BARS = "▁▂▃▄▅▆▇█"
SUMMARISED = "report"
"""The stage whose words end the run: they are not shown twice."""
STALE_S = 60.0
"""Seconds after which the time that a stage said was left is not shown any more."""
WIDE = 100
"""Columns of a terminal that has room for bars and long sparklines."""
SILENT_S = 60.0
"""Seconds without a word of a stage after which a line says that it works."""
POINTS, FEW_POINTS = 16, 5
"""Values of a sparkline: the latest. Fewer on a narrow terminal."""
REDRAWS = 4
"""Of the screen, a second."""
FRAME = 6
"""Lines of the terminal that are no rows of the screen: its head, its foot, and some of what was printed."""
STYLES: Mapping[State, str] = {
    "ran": "green",
    "restored": "cyan",
    "failed": "bold red",
    "running": "bold",
    "waiting": "dim",
}


class View(Protocol):
    """The events of a run, for whoever shows them. Threads of several stages call it at once."""

    every_s: float
    """Seconds between two lines in which a stage tells how far it is."""

    def begun(self, stage: str, why: str) -> None:
        """Tell that a stage starts, and why."""

    def said(self, stage: str, text: str) -> None:
        """Tell a line that a stage printed."""

    def ended(self, stage: str, state: State, seconds: float) -> None:
        """Tell what became of a stage."""

    def passed(self, stage: str) -> None:
        """Tell that a stage is up to date."""


class Lines:
    """Prints a line for each event, and one for a stage that has printed nothing for long."""

    every_s = progress.EVERY_S

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._guard = threading.Lock()

    def begun(self, stage: str, why: str) -> None:
        with self._guard:
            self._began[stage] = self._heard[stage] = time.monotonic()
        progress.say(f"{stage}: {why}")

    def said(self, stage: str, text: str) -> None:
        with self._guard:
            self._heard[stage] = time.monotonic()
        if stage != SUMMARISED:
            print_line(stage, text)

    def ended(self, stage: str, state: State, seconds: float) -> None:
        with self._guard:
            self._heard.pop(stage, None)
        progress.say(f"{stage}: {state} in {seconds:.1f} s")

    def passed(self, stage: str) -> None:
        """Say nothing: most stages of most runs are up to date."""

    def break_silence(self) -> None:
        """Tell how long each stage has worked that has printed nothing for `SILENT_S`."""
        now = time.monotonic()
        with self._guard:
            silent = [stage for stage, heard in self._heard.items() if now - heard >= SILENT_S]
            self._heard |= dict.fromkeys(silent, now)
            lines = [f"{stage}: at work for {progress.span(now - self._began[stage])}" for stage in silent]
        for line in lines:
            progress.say(line)


@dataclass
class Row:
    """A stage on the screen."""

    state: State = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    status: Status | None = None
    heard: float = 0.0
    """When it told its status."""
    losses: list[float] = field(default_factory=list)


class Screen:
    """A table of the stages that rich draws anew several times a second. Lines of stages that are no progress go above it."""

    every_s = 1.0

    def __init__(self, stages: Sequence[str], expected: Mapping[str, StageEstimate]) -> None:
        self.rows = {stage: Row() for stage in stages}
        self._expected, self._began, self._guard = expected, time.monotonic(), threading.Lock()

    def begun(self, stage: str, why: str) -> None:
        with self._guard:
            self.rows[stage] = Row("running", time.monotonic())
        progress.say(f"{stage}: {why}")

    def said(self, stage: str, text: str) -> None:
        status = Status.parse(text)
        if status is None:
            if stage != SUMMARISED:
                print_line(stage, text)
            return
        with self._guard:
            row = self.rows[stage]
            row.status, row.heard = status, time.monotonic()
            if loss := LOSS.search(status.beside):
                row.losses = [*row.losses, float(loss[1])][-POINTS:]

    def ended(self, stage: str, state: State, seconds: float) -> None:
        with self._guard:
            self.rows[stage].state, self.rows[stage].seconds = state, seconds

    def passed(self, stage: str) -> None:
        self.ended(stage, "unchanged", 0.0)

    def table(self, height: int, width: int) -> "RenderableType":
        """Return what rich draws: a line about the whole, and the stages that fit into so many lines, each in one."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        is_wide = width >= WIDE
        for _ in range(5 if is_wide else 4):
            grid.add_column(no_wrap=True)
        with self._guard:
            shown, hidden = _visible(self.rows, max(height, 1))
            for stage in shown:
                row = self.rows[stage]
                bar: RenderableType = ""
                if row.state == "running" and row.status and row.status.total:
                    bar = ProgressBar(row.status.total, row.status.done, width=20)
                style = STYLES.get(row.state, "")
                cells = [Text(stage, style), Text(row.state, style), *([bar] if is_wide else [])]
                grid.add_row(*cells, self._time(stage, row), _beside(row, is_wide=is_wide))
            head = self._head()
        return Group(Text(head, "bold"), grid, *([Text(f"and {hidden} more", "dim")] if hidden else []))

    def _head(self) -> str:
        done = sum(row.state not in ("waiting", "running") for row in self.rows.values())
        text = f"{done} of {len(self.rows)} stages · {progress.span(time.monotonic() - self._began)}"
        left = self.left()
        return f"{text} · about {estimates.as_time(left)} left" if left and left.high >= 1 else text

    def left(self) -> estimates.Range | None:
        """Return the time that is left, stages one after the other; None while that of one stage or more is not known."""
        low = high = 0.0
        for stage, row in self.rows.items():
            if row.state == "running" and row.status and row.status.left_s is not None:
                low, high = low + row.status.left_s, high + row.status.left_s
            elif row.state in ("waiting", "running"):
                if stage not in self._expected:
                    return None
                passed = time.monotonic() - row.began if row.state == "running" else 0.0
                seconds = self._expected[stage].seconds
                low, high = low + max(seconds.low - passed, 0), high + max(seconds.high - passed, 0)
        return estimates.Range(low, high)

    def _time(self, stage: str, row: Row) -> str:
        if row.state == "waiting":
            return estimates.as_time(self._expected[stage].seconds) if stage in self._expected else ""
        if row.state != "running":
            return f"{row.seconds:.1f} s"
        worked = progress.span(time.monotonic() - row.began)
        if row.status is None:
            return worked
        if row.status.done == row.status.total or time.monotonic() - row.heard > STALE_S:
            return (
                f"{replace(row.status, left_s=None).count} · {worked}"  # it works on something that it tells nothing of
            )
        return row.status.count


def _visible(rows: Mapping[str, Row], height: int) -> tuple[list[str], int]:
    """Return the stages to show, in their order, and the number of those left out: first what runs, then what comes, then what is done."""
    changed = [stage for stage, row in rows.items() if row.state != "unchanged"]
    rank = {"running": 0, "failed": 0, "waiting": 1}
    order = sorted(changed, key=lambda stage: rank.get(rows[stage].state, 2))
    kept = set(order[:height])
    return [stage for stage in changed if stage in kept], len(changed) - len(kept)


def _beside(row: Row, *, is_wide: bool) -> str:
    if not row.losses or row.state != "running":
        return ""
    if not is_wide:
        return f"loss {row.losses[-1]:.2f} {sparkline(row.losses[-FEW_POINTS:])}"
    return f"loss {row.losses[-1]:.4f} {sparkline(row.losses)}"


def sparkline(values: Sequence[float]) -> str:
    """Return a bar of eight heights for each value, from the least to the greatest of them."""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def is_wanted() -> bool:
    """Return True where a screen can be drawn and someone may look at it."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and "CI" not in os.environ


@contextmanager
def shown(steps: Sequence[forecast.Step]) -> Iterator[View]:
    """Show what is told inside: on the screen if there is one."""
    if not is_wanted():
        lines = Lines()
        with timer.every(SILENT_S / 4, lines.break_silence, "break-silence"):
            yield lines
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    names = [step.stage for step in steps]
    screen = Screen(names, estimates.for_stages([step.stage for step in steps if step.state != "unchanged"]))
    with Live(
        console=console,
        get_renderable=lambda: screen.table(console.height - FRAME, console.width),
        refresh_per_second=REDRAWS,
        transient=True,  # the summary of the run takes its place
    ):
        yield screen
