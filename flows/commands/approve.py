"""`ratchet approve`."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.registry.history import Approval


def approve(
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse the candidate.")] = False,
    reason: Annotated[str, typer.Option(help="The reason, which the history keeps.")] = "",
    by: Annotated[str, typer.Option(help="Your name; by default that of git's user.name.")] = "",
) -> None:
    """Approve the candidate that the gate would promote, or refuse it.

    For `gate.approval: ask`. Answers the flow run that waits for you; if none waits, judges the candidate now.

    Example: ratchet approve, or ratchet approve --refuse --reason "answers too short"
    """
    from flows.execution import prefect_server
    from flows.registry import history, promotion
    from flows.registry.history import Approval
    from tasks.io.system import git, progress

    name = by or git.user_name()
    if not name:
        raise ValueError("There is no name for the history: give --by NAME, or set git's user.name.")
    approval = Approval(approved=not refuse, by=name, reason=reason)
    word = "refused" if refuse else "approved"
    url = prefect_server.configured()
    if url and prefect_server.answers(url) and _answer(approval):
        progress.say(f"The flow run that waited goes on: {word} by {name}.")
        return
    decision = promotion.promote(lambda _: approval)
    progress.say(
        f"version {decision.version} ({decision.name}): {history.read().outcome(decision)} · {decision.reason}"
    )
    if decision.approval != approval:
        progress.say("Your answer was not used: the gate decided alone, or this candidate was decided before.")


def _answer(approval: "Approval") -> bool:
    from flows.execution import prefect_server
    from tasks.core.imports import lasting

    with lasting():
        from flows import approval as approvals

    with prefect_server.connected():
        return approvals.answer(approval)
