"""Check `labels`: the answer is one of a few labels. Accuracy, macro-F1 and a confusion matrix follow from it."""

import re
from typing import Any, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary, loosely
from tasks.core.records import Unfit

NONE = "no label"


class Labels(AnswerCheck):
    """The answer is the label of the reference, case and punctuation around it aside."""

    kind: Literal["labels"] = "labels"
    labels: tuple[str, ...] = ()
    """All labels. With them a label is found within a sentence too, if it is the only one there; without them the first line of the
    answer is taken for its label."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        label = loosely(str(reference))
        known = [loosely(name) for name in self.labels]
        if not label or (known and label not in known):
            return Unfit(
                "no known label", f"{str(reference)[:60]!r} is none of {', '.join(self.labels) or 'the labels'}"
            )
        return label

    def grade(self, answer: str, expected: Any) -> Grade:
        label = self._label(answer)
        return binary(label == expected, label, "wrong" if label else NONE)

    def _label(self, answer: str) -> str:
        lines = answer.strip().splitlines()
        first = loosely(lines[0]) if lines else ""
        known = [loosely(name) for name in self.labels]
        if not known or first in known:
            return first
        text = loosely(answer)
        named = {label for label in known if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text)}
        longest = {label for label in named if not any(label in other for other in named - {label})}
        return longest.pop() if len(longest) == 1 else ""
