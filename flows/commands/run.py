"""`ratchet run`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands import _completion

if TYPE_CHECKING:
    from flows.execution.dvc import forecast


def run(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Only these stages and what they need.", autocompletion=_completion.stages),
    ] = None,
) -> None:
    """Bring every stage up to date, and show the result.

    Example: ratchet run, or ratchet run evaluate@r0
    """
    from flows.execution import cancellation, preflight, workspace_lease
    from flows.execution.display import report_summary
    from tasks.io.system import progress

    with cancellation.handled(), workspace_lease.acquired():  # repairs need exclusive use of the files
        steps = preflight.prepare(stages or [])
        if all(step.state == "unchanged" for step in steps):
            _record(steps)
            progress.say(f"Nothing changed: all {len(steps)} stages are up to date.")
            report_summary.show()
        else:
            open_steps = sum(step.state != "unchanged" for step in steps)
            progress.say(f"{open_steps} of {len(steps)} stages are out of date. Starting Prefect first.")
            _run(stages or [])


def _record(steps: "Sequence[forecast.Step]") -> None:
    """Record a flow in which nothing runs, without Prefect."""
    from flows.execution import flow_runs
    from flows.execution.dvc import lock_file

    with flow_runs.recorded() as run:
        lock_file.tidy()
        flow_runs.record_outcomes(run, {step.stage: step.state for step in steps})


def _run(stages: list[str]) -> None:
    from flows.execution import prefect_server
    from tasks.core.imports import lasting

    with lasting():
        from flows.pipeline import pipeline

    with prefect_server.connected():
        pipeline(stages)
