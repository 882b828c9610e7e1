"""Check `judge`: another model says which is the better answer, the model's or the reference.

`evaluate.judge` of params.yaml names the server. The stage asks it (`tasks/stages/evaluate/checks/judging.py`); the order of the two answers is
drawn by the seed, and pairs with a known verdict are put among the others.
"""

from typing import Any, ClassVar, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row
from tasks.core.records import Unfit

AGREEMENT = "judge agreement"
"""The measure of the planted pairs: the share in which the judge prefers the right answer."""


class Judge(AnswerCheck):
    """A judge prefers the answer to the reference (1), finds them equal (0.5), or prefers the reference (0)."""

    graded: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (AGREEMENT,)
    kind: Literal["judge"] = "judge"
    criterion: str = "Which answer is more correct and more helpful?"
    """The question that the judge is asked about the two answers."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        return reference if isinstance(reference, Unfit) else str(reference)

    def grade(self, answer: str, expected: Any) -> Grade:
        raise ValueError("A judge is a server: `evaluate.judge` of params.yaml names it, and stage evaluate asks it.")
