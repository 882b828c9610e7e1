"""Bring the graph up to date from a terminal. Starts Prefect only where something is to do."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from flows import graph, ledger, workspace
from tasks import settings
from tasks.io import progress, tracking

REPORT = Path("data/report")


def bring_up_to_date(stages: Sequence[str], flow: Callable[[list[str]], object]) -> None:
    """Run `flow` over `stages` (all where none is named), or record that nothing changed and say so."""
    signal.signal(signal.SIGTERM, _terminate)
    if any(step.state != "unchanged" for step in prepare(stages)):
        _under_prefect(stages, flow)
        return
    with workspace.claimed(), ledger.parent() as run:
        names = [step.stage for step in graph.plan(stages)]
        graph.tidy()
        ledger.record_cached(run, names)
    progress.say(f"Nothing changed: all {len(names)} stages are up to date.")
    show_summary()


def prepare(stages: Sequence[str]) -> list[graph.Step]:
    """The plan, once everything that can be known to be wrong before a stage runs has been checked."""
    for line in graph.mend():
        progress.say(line)
    settings.load()
    tracking.check()
    return graph.plan(stages)


def show_summary() -> None:
    """Print what the report says in short, and where the rest is."""
    summary = REPORT / "summary.txt"
    if summary.is_file():
        progress.say("\n" + summary.read_text(encoding="utf-8").rstrip())
    if pages := sorted(REPORT.glob("*.html")):
        progress.say(f"\nReport: {pages[0]}")
    progress.say("Runs:   `ratchet ui` (or `mlflow ui`) shows every run, its metrics and what it was made from.")


def _under_prefect(stages: Sequence[str], flow: Callable[[list[str]], object]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import server

    with server.available() as url, temporary_settings({PREFECT_API_URL: url}):
        flow(list(stages))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Let a plain `kill` unwind: what was started is stopped, what was recorded is closed."""
    raise SystemExit(128 + signal.SIGTERM)
