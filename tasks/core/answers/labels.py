"""Check `labels`: the answer is one of a few labels. Accuracy, macro-F1 and a confusion matrix follow from it."""

from typing import Any, Literal

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary, loosely, named_in, place_of
from tasks.core.records import Unfit

NONE = "no label"


class Labels(AnswerCheck):
    """The answer is the label of the reference, apart from case and from punctuation around it."""

    kind: Literal["labels"] = "labels"
    labels: tuple[str, ...] = ()
    """All labels. With them, a label is also found within a sentence, if it is the only one there. Without them, the first line of the
    answer is its label."""

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
        first = lines[0] if lines else ""
        if not self.labels:
            return loosely(first)
        if (place := place_of(first, self.labels)) is not None:
            return loosely(self.labels[place])
        named = named_in(loosely(answer), [loosely(name) for name in self.labels])
        return named.pop() if len(named) == 1 else ""
