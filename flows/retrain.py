"""Retrain on new data as a Prefect flow: run the pipeline, let the gate judge the candidate, and promote it if it passes.

`ratchet retrain` runs it, and so do the deployments `retrain/nightly` and `retrain/on-drift`. It may be repeated: stages that are up to
date do not run, and a candidate that was judged is not judged again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import approval
from flows.execution import flow_lease, prefect_server, preflight
from flows.execution.display import run_names
from flows.pipeline import pipeline
from flows.registry import decision_text, drift_log, history, promotion, retrain_log
from flows.registry.history import Approval, PromotionDecision
from flows.registry.retrain_log import RetrainOutcome
from tasks.core.promotion.gate import Verdict
from tasks.io.system import progress

NAMES = [outcome.capitalize() for outcome in (*get_args(Verdict), approval.NOTHING, approval.WAITS)]
"""The states that a retraining can end in, beside Prefect's own."""


@flow(name="retrain", flow_run_name=run_names.of("retrain"), persist_result=False)
def retrain(drift: str = "") -> State[Any]:
    """Bring everything up to date and let the gate decide. Ends as `Promoted`, `Refused`, `Not decided` or `Nothing new`.

    `drift` is the finding of `monitor` if that started the run. If `gate.approval` asks for a person, the run is paused until the
    answer comes, and the workspace is free meanwhile. It ends as `Waits for approval` if another run asks about the same candidate, or
    on a private server, on which nobody could answer.
    """
    with flow_lease.acquired():
        ended = retrain_once(runtime.deployment.name or "by hand", drift, pipeline)
    if ended.open and not prefect_server.is_private() and (answer := approval.ask(ended.open)):
        with flow_lease.acquired():
            ended = replace(settle_once(ended.open, answer), proposal=ended.proposal)
    line = f"{ended.outcome}: {ended.reason}"
    progress.say(line)
    _show(ended, line)
    return Completed(name=ended.outcome.capitalize(), message=line)


def _show(ended: RetrainOutcome, line: str) -> None:
    """Show the outcome of a retraining, with the gate's evidence if it judged a candidate."""
    evidence = decision_text.markdown(ended.decision) if ended.decision else ""
    proposal = f"**A new domain.** {ended.proposal}" if ended.proposal else ""
    text = "\n\n".join(filter(None, [f"**{ended.outcome.capitalize()}.** {ended.reason}", proposal, evidence]))
    create_markdown_artifact(text, key="night", description=line)


def retrain_once(cause: str, drift: str, run: Callable[[], Mapping[str, str]]) -> RetrainOutcome:
    """Retrain, log and return the outcome. `run` runs the pipeline and returns the outcome of each stage.

    A refused candidate is an outcome like any other; a retraining has failed only if it raises.
    """
    with retrain_log.recorded(cause) as ended:
        if drift:
            progress.say(f"Begun because {drift}")
        ran = _up_to_date(run)
        known = len(promotion.complete_history().lines)
        decision, is_open = promotion.judge()
        if is_open:
            ended.open, ended.outcome = decision, approval.WAITS
            ended.reason = (
                f"the gate would promote {decision.name} ({decision.reason}); `ratchet approve` gives a person's word"
            )
        else:
            judged = len(history.read().lines) > known
            ended.outcome, ended.reason = _outcome(decision, ran=ran, judged=judged)
            ended.decision = decision if judged else None
        if drift and ended.outcome == approval.NOTHING:
            ended.reason += f". New data are needed: {drift}"
        ended.proposal = _new_domain()
    return ended


def _new_domain() -> str:
    """Return the proposed adapter for the incoming data, empty if none is proposed. Data that cannot be read do not fail the night."""
    try:
        proposal = drift_log.look_for_new_domains()
    except RuntimeError as error:
        progress.say(f"monitor.incoming: {error} The retraining goes on.")
        return ""
    if proposal:
        progress.say(proposal)
    return proposal


def settle_once(decision: PromotionDecision, answer: Approval) -> RetrainOutcome:
    """Act on a person's answer, log and return the outcome: `nothing new` if the candidate was decided before the answer came."""
    with retrain_log.recorded(f"answer of {answer.by or 'nobody'}") as ended:
        settled = promotion.settle(decision, answer)
        if unused := settled.unused(answer):
            ended.outcome, ended.reason = approval.NOTHING, unused
        else:
            ended.decision = settled
            ended.outcome, ended.reason = settled.verdict, f"version {settled.version}: {settled.reason}"
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
    return approval.NOTHING, f"{stages}; version {decision.version} was judged on {decision.time} ({decision.verdict})"
