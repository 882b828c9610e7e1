"""Retrain on new data as a Prefect flow: run the pipeline, let the gate judge the candidate, and promote it if it passes.

`ratchet retrain`, or the deployments `retrain/nightly` and `retrain/on-drift`. It may be repeated: stages that are up to date
do not run, and a candidate that was judged is not judged again.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.execution import flow_lease, preflight
from flows.pipeline import pipeline
from flows.registry import history, promotion, retrain_log
from flows.registry.history import PromotionDecision
from flows.registry.retrain_log import RetrainOutcome
from tasks.core.gate import Verdict
from tasks.io.system import progress

NOTHING = "nothing new"
NAMES = [outcome.capitalize() for outcome in (*get_args(Verdict), NOTHING)]
"""The states that a retraining can end in, beside Prefect's own."""


@flow(name="retrain", persist_result=False)
def retrain(drift: str = "") -> State[Any]:
    """Bring everything up to date and let the gate decide. Ends as `Promoted`, `Refused`, `Not decided` or `Nothing new`.

    `drift` is the finding of `monitor` if that is the cause.
    """
    with flow_lease.acquired():
        ended = retrain_once(runtime.deployment.name or "by hand", drift, pipeline)
    line = f"{ended.outcome}: {ended.reason}"
    progress.say(line)
    create_markdown_artifact(line, key="night", description="What this night came to.")
    return Completed(name=ended.outcome.capitalize(), message=line)


def retrain_once(cause: str, drift: str, run: Callable[[], Mapping[str, str]]) -> RetrainOutcome:
    """Retrain, log and return the outcome. `run` runs the pipeline and returns the outcome of each stage.

    A refused candidate is an outcome like any other; a retraining has failed only if it raises.
    """
    with retrain_log.recorded(cause) as ended:
        if drift:
            progress.say(f"Begun because {drift}")
        ran = _up_to_date(run)
        known = len(promotion.complete_history().lines)
        decision = promotion.promote()
        ended.outcome, ended.reason = _outcome(decision, ran=ran, judged=len(history.read().lines) > known)
        if drift and ended.outcome == NOTHING:
            ended.reason += f". New data are wanted: {drift}"
    return ended


def _up_to_date(run: Callable[[], Mapping[str, str]]) -> int:
    """Run the pipeline if anything has changed, and return the number of stages that ran."""
    if all(step.state == "unchanged" for step in preflight.prepare([])):
        return 0
    return sum(state == "ran" for state in run().values())


def _outcome(decision: PromotionDecision, *, ran: int, judged: bool) -> tuple[str, str]:
    """Return the outcome of a retraining, and the reason."""
    if judged:
        return decision.verdict, f"version {decision.version}: {decision.reason}"
    stages = f"{ran} stages ran and came to the same model" if ran else "no data, settings or code changed"
    return NOTHING, f"{stages}; version {decision.version} was judged on {decision.time} ({decision.verdict})"
