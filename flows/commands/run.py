"""`ratchet run`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows import graph


def run(
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages and what they need.")] = None,
) -> None:
    """Bring every stage up to date, and show the result.

    Example: ratchet run, or ratchet run evaluate@r0
    """
    from flows import briefing, stopping, workspace
    from tasks.io import progress

    with stopping.told(), workspace.claimed():  # what is mended must be nobody's at work
        steps = briefing.prepare(stages or [])
        if all(step.state == "unchanged" for step in steps):
            _record(steps)
            progress.say(f"Nothing changed: all {len(steps)} stages are up to date.")
            briefing.show_summary()
        else:
            _run(stages or [])


def _record(steps: "Sequence[graph.Step]") -> None:
    """A flow without Prefect: nothing runs, but MLflow hears of it."""
    from flows import graph, ledger

    with ledger.parent() as run:
        graph.tidy()
        ledger.record_cached(run, [step.stage for step in steps])


def _run(stages: list[str]) -> None:
    from flows import server
    from tasks.core.imports import lasting

    with lasting():
        from flows.pipeline import pipeline

    with server.used():
        pipeline(stages)
