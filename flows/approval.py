"""Ask a person about a promotion, and pause a flow run until the answer comes: on Prefect's page, or by `ratchet approve`."""

import contextvars
import json
import socket
import threading
from typing import Any

from prefect import runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput

from flows.execution import run_summary, workspace
from flows.registry import promotion
from flows.registry.history import Approval, PromotionDecision
from tasks import configuration
from tasks.io.runs import run_links
from tasks.io.system import progress

SLACK_S = 3600
"""Added to Prefect's own timeout: if that ended before ours, the run would fail instead of being decided."""
POLL_S = 5
WAITS = "waits for approval"
"""The outcome of a flow run that ends before a person has answered."""
NOTHING = "nothing new"
"""The outcome of a flow run that makes no promotion decision."""
ASKED = workspace.SCRATCH / "asked"
"""Holds a file for each flow run of this workspace that waits for an answer, named by the run's id, as the server may also hold runs of
other workspaces. The file's contents say which decision is asked about."""


class Answer(RunInput):
    """The form of the flow run's page."""

    approve: bool = False
    by: str
    reason: str = ""


def ask(decision: PromotionDecision) -> Approval | None:
    """Return a person's answer; None if another flow run already waits for one about the same decision: nobody is asked twice.

    The flow run is paused until the answer comes, and resumed with a refusal after `gate.approval_hours`.
    """
    if other := _asked_by(decision):
        progress.say(f"{decision.name} waits for approval already, by flow run {other.name}.")
        return None
    hours = configuration.load().gate.approval_hours
    text = question(decision)
    create_markdown_artifact(text, key="approval", description="What a person is asked.")
    progress.say(f"{decision.name} waits for approval: `ratchet approve`, or Resume on the page of this flow run.")
    run = str(runtime.flow_run.id)
    refusal = Answer(approve=False, by="", reason=f"no answer within {hours:g} h")
    here = contextvars.copy_context()  # holds the settings of the server that this flow runs on
    timer = threading.Timer(hours * 3600, here.run, (_resume, run, refusal))
    timer.daemon = True
    timer.start()
    ASKED.mkdir(parents=True, exist_ok=True)
    (ASKED / run).write_text(decision.content, encoding="utf-8")
    try:
        form = Answer.with_initial_data(description=text)
        answer: Any = pause_flow_run(wait_for_input=form, timeout=round(hours * 3600) + SLACK_S, poll_interval=POLL_S)
    finally:
        timer.cancel()
        (ASKED / run).unlink(missing_ok=True)
    return Approval(approved=answer.approve, by=answer.by, reason=answer.reason)


def question(decision: PromotionDecision) -> str:
    """Return what a person decides on, as Markdown."""
    return (
        f"**Promote version {decision.version} ({decision.name})?** The gate would: {decision.reason}. "
        f"It would replace {f'version {decision.champion}' if decision.champion else 'the base model'}. "
        f"{_report(decision.candidate)}"
    )


def _report(candidate: str) -> str:
    """Return where the report is, as addresses that a browser opens."""
    here = f"{run_summary.PAGE.resolve().as_uri()} on {socket.gethostname()}"
    if address := run_links.of_report(candidate):
        return f"[The report]({address}) is in MLflow, and {here}. {run_links.hint()}".rstrip()
    return f"The report is {here}."


def waiting(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs of this workspace that wait for an answer, the latest first. Files that killed runs left do not count."""
    asked = [path.name for path in ASKED.glob("*")]
    paused = FlowRunFilter.model_validate({"id": {"any_": asked}, "state": {"type": {"any_": ["PAUSED"]}}})
    runs = client.read_flow_runs(flow_run_filter=paused) if asked else []
    return sorted(runs, key=lambda run: run.expected_start_time or run.created, reverse=True)  # type: ignore[arg-type, return-value]


def _asked_by(decision: PromotionDecision) -> FlowRun | None:
    """Return the flow run that waits for an answer about the same decision."""
    with get_client(sync_client=True) as client:
        runs = waiting(client)
    return next((run for run in runs if _asked(run) == decision.content), None)


def _asked(run: FlowRun) -> str:
    """Return the content of the decision about which a flow run asks; empty if it was answered just now."""
    try:
        return (ASKED / str(run.id)).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def answer(approval: Approval) -> bool:
    """Give an answer to the waiting flow run that asks about the present candidate, the latest if there are several; return False if none waits.

    Raises RuntimeError if all ask about other candidates, or if Prefect does not resume the run. Raises like `load_candidate` if there is no
    candidate.
    """
    with get_client(sync_client=True) as client:
        runs = waiting(client)
    if not runs:
        return False
    candidate = promotion.load_candidate()
    asked = ((run, _asked(run)) for run in runs)
    run = next((run for run, content in asked if content and json.loads(content)["candidate"] == candidate.hash), None)
    if run is None:
        raise RuntimeError(
            f"{candidate.name} is another candidate than the one that flow run {runs[0].name} asks about, so your answer was not given. End "
            "that run: Resume on its page, without approval. `ratchet approve` then judges what there is now."
        )
    given = Answer(approve=approval.approved, by=approval.by, reason=approval.reason)
    outcome = _resume(str(run.id), given)
    if outcome.status != SetStateStatus.ACCEPT:
        reason = getattr(outcome.details, "reason", None) or outcome.status.value
        raise RuntimeError(
            f"flow run {run.name} still waits: Prefect refused the answer ({reason}). Its page accepts one too."
        )
    return True


def _resume(run: str, given: Answer) -> OrchestrationResult[Any]:
    with get_client(sync_client=True) as client:
        return client.resume_flow_run(run, run_input=given.model_dump())  # type: ignore[arg-type]
