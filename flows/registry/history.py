"""Read and extend the history of promotions: `data/promotions.jsonl`, a line for every decision of the gate and every rollback.

The history decides what was promoted; the champion's folder and MLflow's registry follow it. Lines are only ever added, and
each holds the hash of the one before, so that an edit of any but the last is seen. Every decision also lies with its version in
`models/versions`, so that lines which git took away (a stash, another branch) are put back (`flows.registry.promotion`).
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tasks.core.config import Config
from tasks.core.promotion.gate import GateConfig, Verdict
from tasks.io.system import files

HISTORY = Path("data/promotions.jsonl")
REFERENCE = 0
"""The version number of the first model, before anything was promoted."""


class Approval(Config):
    """A person's answer about a candidate that the gate would promote."""

    approved: bool
    by: str
    """The name of the person; empty if nobody answered in time."""
    reason: str = ""


class PromotionDecision(Config):
    """The decision on a candidate: the gate's, and a person's if the settings ask for one."""

    kind: Literal["decision"] = "decision"
    time: str
    version: int
    """The candidate's number, which is the same in every decision on it."""
    verdict: Verdict
    reason: str
    candidate: str
    """The hash of its files."""
    name: str
    """Its name in `models`."""
    files: dict[str, str]
    """The hash of each of its folders."""
    results: str
    """The hash of its results on the gate set, as kept in the store of versions."""
    champion: int
    """The version that it had to beat."""
    look: int
    level: float
    gate: str
    """The hash of the gate set's contents."""
    rules: GateConfig
    checks: list[dict[str, Any]]
    """The evidence, measure by measure."""
    commit: str
    approval: Approval | None = None
    """The answer of a person, if `gate.approval` asks for it and the gate would promote."""
    after: str = ""

    @property
    def content(self) -> str:
        """The decision as JSON, without the time, the commit, and settings that the judgement does not depend on."""
        return self.model_copy(update={"time": "", "commit": "", "rules": self.rules.judging}).model_dump_json()

    @property
    def is_refused_by_person(self) -> bool:
        """True if a person refused what the gate would have promoted; False if nobody answered in time."""
        return self.approval is not None and not self.approval.approved and bool(self.approval.by)

    def answered(self, approval: Approval) -> "PromotionDecision":
        """Return the gate's decision with a person's answer applied."""
        if approval.approved:
            return self.model_copy(update={"approval": approval})
        who = f"{approval.by} refused it" if approval.by else "nobody approved it"
        because = f" ({approval.reason})" if approval.reason else ""
        reason = f"{who}{because}, though the gate would promote it: {self.reason}"
        return self.model_copy(update={"approval": approval, "verdict": "refused", "reason": reason})

    def unused(self, answer: Approval) -> str:
        """Return a sentence that an answer was not used, as the decision was made before it came; empty if the answer was used."""
        if answer == self.approval:
            return ""
        word = ("approved" if answer.approved else "refused") + (f": {answer.reason}" if answer.reason else "")
        return (
            f"version {self.version}: the answer of {answer.by or 'nobody'} ({word}) was not used, since it was decided on "
            f"{self.time} ({self.verdict})"
        )


class Rollback(Config):
    """A person's return to an earlier version."""

    kind: Literal["rollback"] = "rollback"
    time: str
    version: int
    """The champion after this line."""
    left: int
    """The champion before this line."""
    reason: str
    after: str = ""


Line = Annotated[PromotionDecision | Rollback, Field(discriminator="kind")]
_LINE: TypeAdapter[PromotionDecision | Rollback] = TypeAdapter(Line)


class History:
    """The lines so far, and the champion, looks and numbers that follow from them."""

    def __init__(self, lines: Sequence[PromotionDecision | Rollback], tail: str = "") -> None:
        self.lines = list(lines)
        self.tail = tail
        """The hash that the next line holds in its field `after`."""
        self.decisions = [line for line in lines if isinstance(line, PromotionDecision)]
        self.promoted = {line.version: line for line in self.decisions if line.verdict == "promoted"}

    @property
    def champion(self) -> int:
        """The version in place; `REFERENCE` if none was promoted yet."""
        moves = (
            line.version for line in reversed(self.lines) if isinstance(line, Rollback) or line.verdict == "promoted"
        )
        return next(moves, REFERENCE)

    @property
    def in_place(self) -> str:
        """The champion in words."""
        if self.champion:
            return f"version {self.champion}"
        return "the base model" + ("" if self.promoted else " (nothing was promoted yet)")

    @property
    def looks(self) -> int:
        """The number of decisions against the present champion. Those before a rollback to it count too, as each was a look at the gate
        set."""
        return sum(line.champion == self.champion for line in self.decisions)

    def decided(self, candidate: str, gate: str, rules: GateConfig) -> PromotionDecision | None:
        """Return the earlier decision on this candidate against the present champion, by these rules and on this set.

        A candidate that is in place, or that a person took back, keeps the decision that promoted it: only a person puts it in
        place again (`ratchet rollback`). One that a person refused, and that is neither, stays refused.
        """
        settled = {self.champion, *(line.left for line in self.lines if isinstance(line, Rollback))}
        own = [line for line in self.decisions if line.candidate == candidate]
        promotions = (line for line in own if line.verdict == "promoted" and line.version in settled)
        others = (
            line
            for line in own
            if line.is_refused_by_person
            or (line.champion, line.gate, line.rules.judging) == (self.champion, gate, rules.judging)
        )
        return next(chain(promotions, others), None)

    def outcome(self, decision: PromotionDecision) -> str:
        """Return the verdict of a decision, and the version in place if the decision did not promote that one."""
        back = decision.verdict == "promoted" and decision.version != self.champion
        return (
            f"{decision.verdict}, but {self.in_place} is in place now; `ratchet rollback --to {decision.version}` changes that"
            if back
            else decision.verdict
        )

    def version_of(self, candidate: str) -> int:
        """Return the number of this candidate: its own, or the next free one."""
        known = {line.candidate: line.version for line in self.decisions}
        return known.get(candidate, max(known.values(), default=REFERENCE) + 1)


def read() -> History:
    """Return the history. Raises ValueError, which names a line that is invalid or does not follow the one before."""
    lines, previous = [], ""
    for number, row in enumerate(_rows(), 1):
        try:
            line = parse(row)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ValueError(
                f"{HISTORY}:{number}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}. {_RESTORE}"
            ) from None
        if line.after != _hash(previous):
            raise ValueError(
                f"{HISTORY}:{number} does not follow the line before it: an earlier line was edited. {_RESTORE}"
            )
        lines.append(line)
        previous = row
    return History(lines, _hash(previous))


def parse(row: str) -> PromotionDecision | Rollback:
    """Return a line of the file as a record. Raises pydantic's ValidationError."""
    return _LINE.validate_json(row)


def append(line: PromotionDecision | Rollback) -> None:
    """Add a line that follows the last one (`History.tail`), whole or not at all. Raises ValueError if it does not follow it."""
    rows = _rows()
    if line.after != _hash(rows[-1] if rows else ""):
        raise ValueError(f"{HISTORY} changed while a line was being added. Run it again.")
    files.write_atomically(HISTORY, "".join(f"{row}\n" for row in (*rows, line.model_dump_json())))


def now() -> str:
    """Return the present time as lines hold it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_RESTORE = f"`git log -p {HISTORY}` has its earlier states."


def _rows() -> list[str]:
    return files.lines(HISTORY) if HISTORY.exists() else []


def _hash(row: str) -> str:
    return hashlib.sha256(row.encode()).hexdigest()[:16] if row else ""
