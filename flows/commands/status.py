"""`ratchet status`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands._reports import Report

if TYPE_CHECKING:
    from flows.commands._status_report import PastDecision
    from flows.registry.history import History, PromotionDecision, Rollback
    from flows.registry.retrain_log import Retraining

COLOURS = {"promoted": "green", "kept": "yellow", "failed": "red"}


def status(
    count: Annotated[int, typer.Option("--last", min=1, help="Number of decisions and of retrainings to show.")] = 14,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Show the champion, the last promotion decisions and the last retrainings.

    Each outcome has its reason.

    Example: ratchet status, or ratchet status --last 50
    """
    from flows.commands._status_report import StatusReport
    from flows.registry import history, promotion, retrain_log
    from tasks.io.system import git

    past = history.read()
    missing = promotion.missing_lines(past)
    is_committed = not (past.lines and git.has_changes(history.HISTORY))
    decisions = [_past_decision(line) for line in past.lines[-count:]]
    retrainings = retrain_log.last(count)
    if not as_json:
        _show_place(past, missing, is_committed=is_committed)
        _show_past(past, decisions, retrainings)
    return StatusReport(
        past.champion, past.looks, [line.time for line in missing], is_committed, decisions, retrainings
    )


def _past_decision(line: "PromotionDecision | Rollback") -> "PastDecision":
    from flows.commands._status_report import PastDecision
    from flows.registry import history

    if isinstance(line, history.Rollback):
        return PastDecision(line.time, "rollback", line.version, None, None, line.reason)
    return PastDecision(line.time, "decision", line.version, line.verdict, line.name, line.reason)


def _show_place(past: "History", missing: "list[PromotionDecision | Rollback]", *, is_committed: bool) -> None:
    from flows.commands import _terminal
    from flows.registry import history

    _terminal.show(f"In place: {past.in_place}. Looks at the gate set against it: {past.looks}.")
    for line in missing:
        _terminal.show(
            f"{history.HISTORY} lacks the {line.kind} of {line.time}: `ratchet promote` restores it, or says why not."
        )
    if not is_committed:
        _terminal.show(f"Git does not hold it yet: git add {history.HISTORY} && git commit {history.HISTORY}")


def _show_past(past: "History", decisions: "list[PastDecision]", retrainings: "list[Retraining]") -> None:
    from flows.commands import _terminal
    from flows.registry import history

    words = [
        f"back from {line.left}" if isinstance(line, history.Rollback) else f"{line.verdict} ({line.name})"
        for line in past.lines[len(past.lines) - len(decisions) :]
    ]
    for decision, what in zip(decisions, words, strict=True):
        _terminal.show(
            f"{decision.time}  {decision.version:>4}  {what}  {decision.reason}".rstrip(), hanging=4, colours=COLOURS
        )
    for night in retrainings:
        seconds = "" if night.seconds is None else f"({night.seconds:.0f} s)"
        line = f"night {night.time}  {night.cause}  {night.outcome}  {night.reason} {seconds}".rstrip()
        _terminal.show(line, hanging=4, colours=COLOURS)
