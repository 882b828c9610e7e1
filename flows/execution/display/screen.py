"""Show the progress of a run: one screen that is drawn anew on a terminal, lines anywhere else."""

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from flows.execution import estimates
from flows.execution.dvc import forecast
from flows.execution.estimates import StageEstimate
from flows.execution.stage_runner import print_line
from tasks.io.system import progress
from tasks.io.system.progress import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

State = Literal["waiting", "running", "ran", "restored", "unchanged", "failed", "not begun"]
LOSS = re.compile(r"\bloss (\d+\.\d+)")
BARS = "▁▂▃▄▅▆▇█"
POINTS = 16
"""Values of a sparkline: the latest."""
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
    """Prints a line for each event."""

    every_s = progress.EVERY_S

    def begun(self, stage: str, why: str) -> None:
        progress.say(f"{stage}: {why}")

    def said(self, stage: str, text: str) -> None:
        print_line(stage, text)

    def ended(self, stage: str, state: State, seconds: float) -> None:
        progress.say(f"{stage}: {state} in {seconds:.1f} s")

    def passed(self, stage: str) -> None:
        """Say nothing: most stages of most runs are up to date."""


@dataclass
class Row:
    """A stage on the screen."""

    state: State = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    status: Status | None = None
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
            print_line(stage, text)
            return
        with self._guard:
            row = self.rows[stage]
            row.status = status
            if loss := LOSS.search(status.beside):
                row.losses = [*row.losses, float(loss[1])][-POINTS:]

    def ended(self, stage: str, state: State, seconds: float) -> None:
        with self._guard:
            self.rows[stage].state, self.rows[stage].seconds = state, seconds

    def passed(self, stage: str) -> None:
        self.ended(stage, "unchanged", 0.0)

    def table(self, height: int) -> "RenderableType":
        """Return what rich draws: a line about the whole, and the stages that fit into so many lines."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        with self._guard:
            shown, hidden = _visible(self.rows, max(height, 1))
            for stage in shown:
                row = self.rows[stage]
                bar: RenderableType = ""
                if row.state == "running" and row.status and row.status.total:
                    bar = ProgressBar(row.status.total, row.status.done, width=20)
                style = STYLES.get(row.state, "")
                grid.add_row(Text(stage, style), Text(row.state, style), bar, self._time(stage, row), _beside(row))
            head = self._head()
        return Group(Text(head, "bold"), grid, *([Text(f"and {hidden} more", "dim")] if hidden else []))

    def _head(self) -> str:
        done = sum(row.state not in ("waiting", "running") for row in self.rows.values())
        text = f"{done} of {len(self.rows)} stages · {progress.span(time.monotonic() - self._began)}"
        left = self.left()
        return text if left is None else f"{text} · about {estimates.as_time(left)} left"

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
        return row.status.count if row.status else progress.span(time.monotonic() - row.began)


def _visible(rows: Mapping[str, Row], height: int) -> tuple[list[str], int]:
    """Return the stages to show, in their order, and the number of those left out: first what runs, then what comes, then what is done."""
    changed = [stage for stage, row in rows.items() if row.state != "unchanged"]
    rank = {"running": 0, "failed": 0, "waiting": 1}
    order = sorted(changed, key=lambda stage: rank.get(rows[stage].state, 2))
    kept = set(order[:height])
    return [stage for stage in changed if stage in kept], len(changed) - len(kept)


def _beside(row: Row) -> str:
    if not row.losses or row.state != "running":
        return ""
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
        yield Lines()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    names = [step.stage for step in steps]
    screen = Screen(names, estimates.for_stages([step.stage for step in steps if step.state != "unchanged"]))
    with Live(
        console=console,
        get_renderable=lambda: screen.table(console.height - FRAME),
        refresh_per_second=REDRAWS,
        transient=True,  # the summary of the run takes its place
    ):
        yield screen
