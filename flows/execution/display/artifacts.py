"""Show a pipeline on Prefect's pages: its plan, its progress, and the outcome of every stage, with links to MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from httpx import TransportError
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from flows.execution.dvc import console, forecast
from tasks.io.runs import run_links
from tasks.io.system import progress

PLAN, STAGES, PROGRESS = "pipeline-plan", "pipeline-stages", "pipeline-progress"


@dataclass(frozen=True)
class StageOutcome:
    """The end of one stage in a run."""

    stage: str
    state: console.State | Literal["failed", "not begun"]
    seconds: float


class ProgressBar:
    """The bar of a flow run: the share of its stages that are done."""

    def __init__(self, steps: Sequence[forecast.Step]) -> None:
        self._number, self._done = len(steps), 0
        artifact = create_progress_artifact(0.0, key=PROGRESS, description=f"{self._number} stages")
        assert isinstance(artifact, UUID)
        self._id = artifact

    def step(self) -> None:
        """Count one more stage as done."""
        self._done += 1
        update_progress_artifact(self._id, 100 * self._done / self._number)


def show_plan(steps: Sequence[forecast.Step]) -> None:
    """Show the plan as a table."""
    rows = [{"stage": step.stage, "planned": step.state, "why": step.reasons} for step in steps]
    create_table_artifact(rows, key=PLAN, description="What this run makes of each stage, foretold.")


def show_outcomes(outcomes: Sequence[StageOutcome], steps: Sequence[forecast.Step], run: str) -> None:
    """Show what each stage came to as a table, each with its MLflow run; `run` is our id of the flow's own. Prefect's server may be away."""
    states = ("ran", "restored", "unchanged", "failed", "not begun")
    counts = [(state, sum(o.state == state for o in outcomes)) for state in states]
    progress.say(f"Done: {', '.join(f'{count} {state}' for state, count in counts if count)}.")
    plan = {step.stage: step for step in steps}
    links = {stage: f"[open]({address})" for stage, address in run_links.of_stages(run).items()}
    rows: list[dict[str, Any]] = [
        {
            "stage": outcome.stage,
            "planned": plan[outcome.stage].state,
            "became": outcome.state,
            "seconds": round(outcome.seconds, 1),
            "why": plan[outcome.stage].reasons if outcome.seconds else "",
            "MLflow": links.get(outcome.stage, ""),
        }
        for outcome in outcomes
    ]
    description = f"What became of each stage. {run_links.hint()} In MLflow: tags.`ratchet.run` = '{run}'"
    try:
        create_table_artifact(rows, key=STAGES, description=description)
    except TransportError as error:  # what a stage failed of must not be hidden by it
        progress.say(f"Prefect's server does not answer ({error}), so its pages lack the table of this run.")
