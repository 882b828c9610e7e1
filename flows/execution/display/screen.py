"""Show the progress of a run: on a terminal as one screen that is redrawn, elsewhere as lines."""

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
"""The stage whose output is shown at the end of the run, and therefore not while it runs."""
STALE_S = 60.0
"""Seconds after which the remaining time that a stage reported is no longer shown."""
WIDE = 100
"""Columns of a terminal that has room for bars and long sparklines."""
SILENT_S = 60.0
"""Seconds without output of a stage after which a line says that it is still running."""
POINTS, FEW_POINTS = 16, 5
"""The latest values that a sparkline shows; fewer on a narrow terminal."""
REDRAWS = 4
"""Redraws of the screen per second."""
FRAME = 6
"""Lines of the terminal without a stage: the head and foot of the screen, and some printed lines."""
STYLES: Mapping[State, str] = {
    "ran": "green",
    "restored": "cyan",
    "failed": "bold red",
    "running": "bold",
    "waiting": "dim",
}


class View(Protocol):
    """The receiver of the events of a run. Threads of several stages call it at the same time."""

    every_s: float
    """Seconds between two progress lines of a stage."""

    def begun(self, stage: str, why: str) -> None:
        """Show that a stage starts, and why."""

    def said(self, stage: str, text: str) -> None:
        """Show a line that a stage printed."""

    def ended(self, stage: str, state: State, seconds: float) -> None:
        """Show the outcome of a stage."""

    def passed(self, stage: str) -> None:
        """Show that a stage is up to date."""


class Lines:
    """Prints a line for each event, and one for a stage that has printed nothing for a long time."""

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
        """Report each stage that has printed nothing for `SILENT_S`, with the time for which it has worked."""
        now = time.monotonic()
        with self._guard:
            silent = [stage for stage, heard in self._heard.items() if now - heard >= SILENT_S]
            self._heard |= dict.fromkeys(silent, now)
            lines = [f"{stage}: running for {progress.span(now - self._began[stage])}" for stage in silent]
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
    """When the stage last reported its status."""
    losses: list[float] = field(default_factory=list)


class Screen:
    """A table of the stages, which rich redraws several times a second. Lines of stages that report no progress are printed above it."""

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
        """Return what rich draws: a line about the whole run, and as many stages as fit into `height` lines, one a line."""
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
        """Return the remaining time, stages one after the other; None while the time of any stage is not known."""
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
                f"{replace(row.status, left_s=None).count} · {worked}"  # it works on something without progress reports
            )
        return row.status.count


def _visible(rows: Mapping[str, Row], height: int) -> tuple[list[str], int]:
    """Return the stages to show in plan order, and the number left out. Running ones come first, then waiting, then finished ones."""
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
    """Return one bar of eight possible heights for each value, scaled from the least to the greatest value."""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def is_wanted() -> bool:
    """Return True if a screen can be drawn and somebody may look at it."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and "CI" not in os.environ


@contextmanager
def shown(steps: Sequence[forecast.Step]) -> Iterator[View]:
    """Yield what shows the events of a run: a screen if one can be drawn, else lines."""
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
        transient=True,  # the summary of the run replaces the screen
    ):
        yield screen
