"""Check `regex`: a pattern extracts the answer from the text, on both sides."""

import re
from typing import Any, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Pattern, Row, binary, collapse
from tasks.core.records import Unfit


class Regex(AnswerCheck):
    """The answer that a pattern finds in the model's text equals the one in the reference, apart from white space and case."""

    kind: Literal["regex"] = "regex"
    pattern: Pattern
    """A Python regular expression. The answer is the first group that matches, or the whole match if there is no group."""
    take: Literal["first", "last"] = "last"
    """The match that counts if there are several."""
    ignore_case: bool = True

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        extracted = self._extract(str(reference))
        if extracted is None and self.reference is not None:
            return self._normalise(str(reference))  # a column of references holds the answer without other text
        return extracted or Unfit("no match", f"the pattern finds nothing in {str(reference)[-60:]!r}")

    def grade(self, answer: str, expected: Any) -> Grade:
        extracted = self._extract(answer)
        return binary(extracted == expected, extracted or "", "no match" if extracted is None else "wrong")

    def _extract(self, text: str) -> str | None:
        matches = list(re.finditer(self.pattern, text))
        if not matches:
            return None
        match = matches[0 if self.take == "first" else -1]
        groups = [
            group for group in match.groups() if group is not None
        ]  # of `answer: (.*)|#### (.*)`, one of two groups matches
        return self._normalise(next(iter(groups), "") if match.re.groups else match[0])

    def _normalise(self, text: str) -> str:
        return collapse(text).casefold() if self.ignore_case else collapse(text)
