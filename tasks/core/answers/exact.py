"""Check `exact`: the answer equals the reference after normalisation.

With the same options it equals `exact_match` of lm-evaluation-harness, because the steps have the same order: patterns, case, punctuation, numbers.
"""

import re
import string
from typing import Any, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Pattern, Row, binary, collapse
from tasks.core.records import Unfit

PUNCTUATION = str.maketrans("", "", string.punctuation)
DIGITS = str.maketrans("", "", string.digits)


class Exact(AnswerCheck):
    """The answer equals the reference. White space is collapsed on both sides."""

    kind: Literal["exact"] = "exact"
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    ignore: tuple[Pattern, ...] = ()
    """Patterns (Python regular expressions) that are removed from both sides first."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        normal = self._normalise(str(reference))
        return normal or Unfit("nothing to compare", f"the normalisation leaves nothing of {str(reference)[:60]!r}")

    def grade(self, answer: str, expected: Any) -> Grade:
        normal = self._normalise(answer)
        return binary(normal == expected, normal)

    def _normalise(self, text: str) -> str:
        for pattern in self.ignore:
            text = re.sub(pattern, "", text)
        text = text.lower() if self.ignore_case else text
        text = text.translate(PUNCTUATION) if self.ignore_punctuation else text
        return collapse(text.translate(DIGITS) if self.ignore_numbers else text)
