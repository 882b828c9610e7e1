"""`ratchet run`."""

import signal
from types import FrameType
from typing import Annotated

import typer


def run(
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages and what they need.")] = None,
) -> None:
    """Bring every stage up to date, and show the result.

    Example: ratchet run, or ratchet run evaluate@r0
    """
    from flows import briefing
    from tasks.io import progress

    signal.signal(signal.SIGTERM, _terminate)
    try:
        steps = briefing.prepare(stages or [])
        if all(step.state == "unchanged" for step in steps):
            _record(stages or [])
            progress.say(f"Nothing changed: all {len(steps)} stages are up to date.")
            briefing.show_summary()
        else:
            _run(stages or [])
    except KeyboardInterrupt:
        progress.say("Stopped. What is finished is kept; `ratchet run` goes on from here.")
        raise typer.Exit(128 + signal.SIGINT) from None


def _record(stages: list[str]) -> None:
    """A flow without Prefect: nothing runs, but MLflow hears of it."""
    from flows import graph, ledger, workspace

    with workspace.claimed(), ledger.parent() as run:
        graph.tidy()
        ledger.record_cached(run, [step.stage for step in graph.plan(stages)])


def _run(stages: list[str]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import server
    from flows.pipeline import pipeline

    with temporary_settings({PREFECT_API_URL: server.available()}):
        pipeline(stages)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Let a plain `kill` unwind: what was started is stopped, what was recorded is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # being asked twice must not break off the tidying
    raise SystemExit(128 + signal.SIGTERM)
