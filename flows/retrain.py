"""A night: what is new in the data goes through the pipeline, before the gate, and into place if it passes.

`ratchet retrain`, or the deployments `retrain/nightly` and `retrain/on-drift`. A night may be repeated: stages that are up to date
do not run, and a candidate that was judged is not judged again.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import briefing, history, nights, promotion, turn
from flows.history import Decision
from flows.nights import Outcome
from flows.pipeline import pipeline
from tasks.core.gate import Verdict
from tasks.io import progress

NOTHING = "nothing new"
NAMES = [outcome.capitalize() for outcome in (*get_args(Verdict), NOTHING)]
"""The states that a night can end in, beside Prefect's own."""


@flow(name="retrain", persist_result=False)
def retrain(drift: str = "") -> State[Any]:
    """Bring everything up to date and let the gate decide. Ends as `Promoted`, `Refused`, `Not decided` or `Nothing new`.

    `drift` is what `monitor` found, where that is the cause.
    """
    with turn.taken():
        ended = night(runtime.deployment.name or "by hand", drift, pipeline)
    line = f"{ended.outcome}: {ended.reason}"
    progress.say(line)
    create_markdown_artifact(line, key="night", description="What this night came to.")
    return Completed(name=ended.outcome.capitalize(), message=line)


def night(cause: str, drift: str, run: Callable[[], Mapping[str, str]]) -> Outcome:
    """What a night comes to, which is in the journal then. `run` runs the pipeline and says what became of each stage.

    A candidate that is refused is an outcome as good as another; what raises is a night that failed.
    """
    with nights.recorded(cause) as ended:
        if drift:
            progress.say(f"Begun because {drift}")
        ran = _up_to_date(run)
        known = len(promotion.history_in_full().lines)
        decision = promotion.promote()
        ended.outcome, ended.reason = _told(decision, ran=ran, judged=len(history.read().lines) > known)
        if drift and ended.outcome == NOTHING:
            ended.reason += f". New data are wanted: {drift}"
    return ended


def _up_to_date(run: Callable[[], Mapping[str, str]]) -> int:
    """Run what has to; the number of stages that did."""
    if all(step.state == "unchanged" for step in briefing.prepare([])):
        return 0
    return sum(state == "ran" for state in run().values())


def _told(decision: Decision, *, ran: int, judged: bool) -> tuple[str, str]:
    """What a night came to, and why."""
    if judged:
        return decision.verdict, f"version {decision.version}: {decision.reason}"
    stages = f"{ran} stages ran and came to the same model" if ran else "no data, settings or code changed"
    return NOTHING, f"{stages}; version {decision.version} was judged on {decision.time} ({decision.verdict})"
