"""Promote as a Prefect flow: the gate decides on the present candidate. `ratchet promote` does the same without Prefect."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.execution import flow_lease
from flows.registry import history, promotion


@flow(name="promote", persist_result=False)
def promote() -> str:
    """Judge the candidate and act on it. Returns the verdict; asked again about the same candidate, it answers the same."""
    with flow_lease.acquired():
        decision = promotion.promote()
    outcome = history.read().outcome(decision)
    create_markdown_artifact(
        f"Version {decision.version} ({decision.name}): **{outcome}**. {decision.reason}", key="promotion"
    )
    return decision.verdict
