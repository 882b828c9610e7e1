"""Check `contains`: the answer contains the reference."""

from typing import Any, Literal

from tasks.core.answers.base import WRONG, AnswerCheck, Grade, Row, binary, collapse
from tasks.core.records import Unfit


class Contains(AnswerCheck):
    """The answer contains the reference. If the column holds a list of references, it contains one or all of them."""

    kind: Literal["contains"] = "contains"
    ignore_case: bool = True
    require: Literal["all", "any"] = "all"

    def expect(self, row: Row) -> list[str] | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        texts = [self._normalise(str(text)) for text in (reference if isinstance(reference, list) else [reference])]
        return texts if texts and all(texts) else Unfit("nothing to compare", "a reference is empty")

    def grade(self, answer: str, expected: Any) -> Grade:
        normal = self._normalise(answer)
        contained = [text for text in expected if text in normal]
        right = len(contained) == len(expected) if self.require == "all" else bool(contained)
        return binary(right, " · ".join(contained), WRONG)

    def shown(self, expected: Any) -> str:
        return " · ".join(expected)

    def _normalise(self, text: str) -> str:
        return collapse(text).casefold() if self.ignore_case else collapse(text)
