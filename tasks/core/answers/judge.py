"""Check `judge`: another model decides which answer is better, the model's or the reference.

`evaluate.judge` in params.yaml names the server, and stage `evaluate` calls it (`tasks/stages/evaluate/checks/judging.py`). The order of the two
answers is drawn by the seed. Pairs with a known verdict are mixed with the others, to test the judge.
"""

from typing import Any, ClassVar, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row
from tasks.core.records import Unfit

AGREEMENT = "judge agreement"
"""The measure of the pairs with a known verdict: the share in which the judge prefers the right answer."""


class Judge(AnswerCheck):
    """A judge prefers the answer to the reference (1), finds them equal (0.5), or prefers the reference (0)."""

    graded: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (AGREEMENT,)
    kind: Literal["judge"] = "judge"
    criterion: str = "Which answer is more correct and more helpful?"
    """The question about the two answers in the prompt of the judge."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        return reference if isinstance(reference, Unfit) else str(reference)

    def grade(self, answer: str, expected: Any) -> Grade:
        raise ValueError("A judge is a server: `evaluate.judge` of params.yaml names it, and stage evaluate asks it.")
