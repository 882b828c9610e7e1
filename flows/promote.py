"""Promote as a Prefect flow: the gate decides on the present candidate. `ratchet promote` does the same without Prefect."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows import approval
from flows.execution import flow_lease, prefect_server
from flows.registry import history, promotion


@flow(name="promote", persist_result=False)
def promote() -> str:
    """Judge the candidate and act on it. Returns the verdict; asked again about the same candidate, it answers the same."""
    with flow_lease.acquired():
        decision, is_open = promotion.judge()
    if is_open:
        if prefect_server.is_private():
            raise RuntimeError(
                "`gate.approval: ask` wants a person's word, and nobody reaches this server: `ratchet approve` gives it."
            )
        answer = approval.ask(decision)
        with flow_lease.acquired():
            decision = promotion.settle(decision, answer)
    outcome = history.read().outcome(decision)
    create_markdown_artifact(
        f"Version {decision.version} ({decision.name}): **{outcome}**. {decision.reason}", key="promotion"
    )
    return decision.verdict
