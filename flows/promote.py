"""Promote as a Prefect flow: the gate judges the present candidate. `ratchet promote` does the same without Prefect."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import approval
from flows.execution import flow_lease, prefect_server
from flows.execution.display import run_names
from flows.registry import decision_text, history, promotion


@flow(name="promote", flow_run_name=run_names.of("promote"), persist_result=False)
def promote() -> State[str]:
    """Judge the candidate and act on it. Ends as `Promoted`, `Refused` or `Not decided`, with the verdict as its result.

    Called again for the same candidate, it returns the same verdict. It ends as `Waits for approval` if another run asks a person about the
    candidate, and as `Nothing new` if the candidate was decided before the answer came.
    """
    with flow_lease.acquired():
        decision, is_open = promotion.judge()
    if is_open:
        if prefect_server.is_private():
            raise RuntimeError(
                "`gate.approval: ask` needs a person's approval, and this private server cannot ask for it: `ratchet approve` gives it."
            )
        answer = approval.ask(decision)
        if answer is None:
            line = f"another flow run asks whether {decision.name} is promoted; `ratchet approve` gives a person's word"
            return Completed(name=approval.WAITS.capitalize(), message=line, data=approval.WAITS)
        with flow_lease.acquired():
            decision = promotion.settle(decision, answer)
        if unused := decision.unused(answer):
            return Completed(name=approval.NOTHING.capitalize(), message=unused, data=approval.NOTHING)
    outcome = history.read().outcome(decision)
    create_markdown_artifact(decision_text.markdown(decision), key="promotion", description=outcome)
    line = f"version {decision.version} ({decision.name}): {outcome}. {decision.reason}"
    return Completed(name=decision.verdict.capitalize(), message=line, data=decision.verdict)
