"""The interface of all checks: the expected answer of a row, and the grade of an answer."""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator

from tasks.core.config import Config
from tasks.core.records import SCORED, Unfit

PASSED = "passed"
WRONG = "wrong"
AROUND = ".,;:!?'\"()[]{}*_` \u3002\uff0e\u3001\uff0c\uff01\uff1f\uff1b\uff1a…“”‘’«»„‚「」『』（）【】《》¿¡"
"""Punctuation that has no meaning at either end of an answer. Other signs may have one: A+ and A-, C++ and C#, -5 and 5."""
BULLET = re.compile(r"(?:[-•–—#+=]+>?|→)\s+(?!\d)")
"""A list bullet, the mark of a heading or an arrow before a text. A dash before a number does not match, because it may be a minus sign."""
PAIRS = {"<": ">", "$": "$", "~": "~", "|": "|", "/": "/", "=": "=", "#": "#"}
"""Pairs of signs around a text: Markdown, LaTeX, tags."""
STARTS = r"(?<!\w)(?:(?!\d)|(?<!\W-)(?<!^-)(?<!\d[.,/]))"
ENDS = r"(?!\w)(?!(?<=\d)[.,/]\d)"
"""Boundaries of a word or a number within a text: 5 does not occur in -5, 0.5 or 1/5."""


def _checked(pattern: str) -> str:
    """Return the pattern. Raises ValueError if it is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_checked)]
"""A Python regular expression, in settings."""


class Grade(NamedTuple):
    """The grade of one answer."""

    score: float
    """1 is right, 0 is wrong. Scores of `graded` checks may lie between them."""
    verdict: str
    """`passed`, or the kind of failure: `wrong`, `no number`, the verdict of the sandbox."""
    parsed: str = ""
    """The part of the answer that was compared; empty if there is none."""
    inside: bool = False
    """True if some results of a program were compared within the process that ran it."""


@dataclass(frozen=True)
class Row:
    """The parts of a source's row that a check reads."""

    prompt: str
    response: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Its columns."""


class AnswerCheck(Config, ABC):
    """The check of a source's answers. Each kind adds its options."""

    graded: ClassVar[bool] = False
    """True if scores may lie between 0 and 1. The measure is then their mean, not a proportion."""
    beside: ClassVar[tuple[str, ...]] = ()
    """Names of further measures, which other modules grade."""

    kind: str
    reference: str | None = None
    """The column with the right answer. Without it, the response is the right answer."""

    @property
    def measure(self) -> str:
        """Return the name of the measure, `number accuracy`."""
        return f"{self.kind}{SCORED if self.graded else ' accuracy'}"

    def reshape(self, values: Mapping[str, Any]) -> Mapping[str, Any] | Unfit:
        """Return the columns of a row from which its conversation is formed. Most kinds return them unchanged."""
        return values

    def reshaped(self, values: Mapping[str, Any]) -> set[str]:
        """Return the columns that `reshape` replaces by others; none if it returns the row unchanged."""
        del values
        return set()

    @abstractmethod
    def expect(self, row: Row) -> Any | Unfit:
        """Return the expected answer as a JSON value, or the reason why the check does not fit the row."""

    @abstractmethod
    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade of an answer."""

    def shown(self, expected: Any) -> str:
        """Return the expected answer as text, for tables of results."""
        return str(expected)

    def reference_of(self, row: Row) -> Any | Unfit:
        """Return the right answer of a row: its column `reference`, or its response."""
        if self.reference is None:
            return row.response
        value = row.values.get(self.reference)
        return Unfit("no reference", f"the column {self.reference!r} is empty") if value in (None, "") else value


def binary(right: bool, parsed: str, failure: str = WRONG) -> Grade:
    """Return the grade of an answer that can only be right or wrong."""
    return Grade(float(right), PASSED if right else failure, parsed)


def collapse(text: str) -> str:
    """Return the text in Unicode normal form C, with single spaces between words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def loosely(text: str) -> str:
    """Return the text in lower case and without punctuation around it. A sign directly before or after a word is part of it: `-5`, `a+`, `c#`, `50%`."""
    text, longer = collapse(text).casefold().replace("−", "-"), ""
    while text != longer:
        longer, text = text, text.strip(AROUND)
        text = text[bullet.end() :] if (bullet := BULLET.match(text)) else text
        if len(text) > 2 and PAIRS.get(text[0]) == text[-1]:
            text = text[1:-1]
    return text


def place_of(text: str, known: Sequence[str]) -> int | None:
    """Return the index of the known text that equals `text`; None if there is none or several.

    Texts are compared first exactly, then by `loosely`, then also without signs of currency and per cent.
    """
    for plain in (collapse, loosely, lambda each: loosely(each).strip("$€£¥%")):
        wanted = plain(text)
        if places := [place for place, each in enumerate(known) if plain(each) == wanted != ""]:
            return places[0] if len(places) == 1 else None
    return None


def named_in(text: str, known: Sequence[str]) -> set[str]:
    """Return the known texts that occur in `text` as whole words or numbers. At one place only the longest of them counts. All texts are in the form of `loosely`."""
    longest = "|".join(re.escape(each) for each in sorted(known, key=len, reverse=True) if each)
    return set(re.findall(rf"{STARTS}(?:{longest}){ENDS}", text)) if longest else set()
