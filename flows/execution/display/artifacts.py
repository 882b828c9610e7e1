"""Show a pipeline on Prefect's pages: graph, plan and progress, the outcome of every stage, and the verdict, with links to MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from httpx import TransportError
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.execution import run_summary
from flows.execution.display import graph
from flows.execution.dvc import console, forecast
from tasks.io.runs import run_links
from tasks.io.system import progress

PLAN, STAGES, PROGRESS = "pipeline-plan", "pipeline-stages", "pipeline-progress"
GRAPH, VERDICT, MLFLOW, REPORT = "pipeline-graph", "pipeline-verdict", "pipeline-mlflow", "pipeline-report"


@dataclass(frozen=True)
class StageOutcome:
    """The outcome of one stage in a run."""

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
    """Show the plan: the graph as a picture, and a table with the reason for each stage."""
    rows = [{"stage": step.stage, "planned": step.state, "why": step.reasons} for step in steps]
    _show_graph(steps, {step.stage: step.state for step in steps}, "The stages, and what this run will make of each.")
    create_table_artifact(rows, key=PLAN, description="What this run will do to each stage.")


def show_outcomes(outcomes: Sequence[StageOutcome], steps: Sequence[forecast.Step], run: str) -> None:
    """Show each stage's outcome, the verdict, and links to MLflow. `run` is our own id of the flow. Prefect's server may be unreachable."""
    became = {outcome.stage: outcome.state for outcome in outcomes}
    states = ("ran", "restored", "unchanged", "failed", "not begun")
    counts = [(state, sum(o == state for o in became.values())) for state in states]
    progress.say(f"Done: {', '.join(f'{count} {state}' for state, count in counts if count)}.")
    try:
        _show_graph(steps, became, "The stages, and what became of each.")
        _show_table(outcomes, steps, run)
        _show_verdict(became, run)
    except TransportError as error:  # must not hide the error of a failed stage
        progress.say(f"Prefect's server does not answer ({error}), so its pages lack the table of this run.")


def _show_graph(steps: Sequence[forecast.Step], states: Mapping[str, str], description: str) -> None:
    text = graph.markdown({step.stage: step.upstream for step in steps}, states)
    create_markdown_artifact(text, key=GRAPH, description=description)


def _show_table(outcomes: Sequence[StageOutcome], steps: Sequence[forecast.Step], run: str) -> None:
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
    create_table_artifact(rows, key=STAGES, description=description)


def _show_verdict(became: Mapping[str, str], run: str) -> None:
    """Show the verdict on the candidate, and links to the run and the report in MLflow."""
    figures = run_summary.newly_measured(became)
    text = run_summary.description(became, figures)
    create_markdown_artifact(text, key=VERDICT, description="The verdict of this run.")
    _show_link(run_links.of_flow(run), "This run in MLflow", MLFLOW, "Settings and curves.")
    if figures:
        link = run_links.of_flow(run, run_links.REPORT)
        _show_link(link, "The report", REPORT, f"In the workspace: {run_summary.PAGE}.")


def _show_link(address: str | None, text: str, key: str, description: str) -> None:
    if address:
        create_link_artifact(address, link_text=text, key=key, description=f"{description} {run_links.hint()}")
