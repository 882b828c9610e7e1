"""`ratchet promote`."""

import sys
from typing import TYPE_CHECKING

from flows.commands import _terminal

if TYPE_CHECKING:
    from flows.registry.history import Approval, PromotionDecision


def promote() -> None:
    """Judge the candidate, and put it in place if it passes.

    It is judged against the champion and every model ever promoted.

    Example: ratchet run, then ratchet promote
    """
    from flows.registry import history, promotion
    from tasks.io.system import progress

    given: list[Approval] = []

    def ask(decision: "PromotionDecision") -> "Approval":
        given.append(_ask(decision))
        return given[0]

    decision = promotion.promote(ask if sys.stdin.isatty() else None)
    if given and (unused := decision.unused(given[0])):
        progress.say(unused)
    past = history.read()
    progress.say(f"version {decision.version} ({decision.name}): {past.outcome(decision)}")
    for cause in decision.reason.split("; "):
        progress.say(f"  {cause}")
    progress.say(
        f"Look {decision.look} against {'version ' + str(decision.champion) if decision.champion else 'the base model'}, "
        f"tested at level {decision.level:.2g} (alpha {decision.rules.alpha:g}). "
        f"In place now: {past.in_place}. Commit {history.HISTORY} to keep the decision."
    )


def _ask(decision: "PromotionDecision") -> "Approval":
    """Return the answer of the person at the terminal, for `gate.approval: ask`."""
    from flows.registry.history import Approval
    from tasks.io.system import git

    place = f"version {decision.champion}" if decision.champion else "the base model"
    question = f"The gate would promote {decision.name}: {decision.reason}. Put it in the place of {place}?"
    approved = _terminal.confirm(question, default=False)
    return Approval(approved=approved, by=git.user_name() or "the person at the terminal")
