"""The protocol of all checks: what a row expects, and the grade of an answer."""

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
"""Punctuation that says nothing at either end of an answer. Other signs may: A+ and A-, C++ and C#, -5 and 5."""
BULLET = re.compile(r"(?:[-•–—#+=]+>?|→)\s+(?!\d)")
"""A dash of a list, a heading or an arrow before a text. Before a number it may be its minus."""
PAIRS = {"<": ">", "$": "$", "~": "~", "|": "|", "/": "/", "=": "=", "#": "#"}
"""Signs that stand around a text: Markdown, LaTeX, tags."""
STARTS = r"(?<!\w)(?:(?!\d)|(?<!\W-)(?<!^-)(?<!\d[.,/]))"
ENDS = r"(?!\w)(?!(?<=\d)[.,/]\d)"
"""Of a word or a number within a text: 5 does not stand in -5, 0.5 or 1/5."""


def _checked(pattern: str) -> str:
    """Return a regular expression. Raises ValueError if the text is none."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_checked)]
"""A regular expression of Python's, in settings."""


class Grade(NamedTuple):
    """The grade of one answer."""

    score: float
    """1 is right, 0 is wrong; scores of `graded` checks lie between."""
    verdict: str
    """`passed`, or the way it failed: `wrong`, `no number`, the verdict of a sandbox."""
    parsed: str = ""
    """The part of the answer that was compared; empty if there is none."""
    inside: bool = False
    """True if some tests of a program were compared in the process that ran it."""


@dataclass(frozen=True)
class Row:
    """A row of a source as a check sees it."""

    prompt: str
    response: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Its columns."""


class AnswerCheck(Config, ABC):
    """The check of a source's answers. Each kind adds its options."""

    graded: ClassVar[bool] = False
    """True if scores lie between 0 and 1: the measure is their mean, and no share."""
    beside: ClassVar[tuple[str, ...]] = ()
    """The measures beside its own, which other modules grade."""

    kind: str
    reference: str | None = None
    """The column with the right answer; without it the response is the right answer."""

    @property
    def measure(self) -> str:
        """Return the name of the measure, `number accuracy`."""
        return f"{self.kind}{SCORED if self.graded else ' accuracy'}"

    def reshape(self, values: Mapping[str, Any]) -> Mapping[str, Any] | Unfit:
        """Return the columns of a row that become its conversation; most kinds take them as they are."""
        return values

    def reshaped(self, values: Mapping[str, Any]) -> set[str]:
        """Return the columns of a row that `reshape` makes others of; none where it takes them as they are."""
        del values
        return set()

    @abstractmethod
    def expect(self, row: Row) -> Any | Unfit:
        """Return what a right answer is held against, as JSON can hold it, or the reason why the check does not fit the row."""

    @abstractmethod
    def grade(self, answer: str, expected: Any) -> Grade:
        """Return the grade of an answer."""

    def shown(self, expected: Any) -> str:
        """Return what is expected as text, for tables of results."""
        return str(expected)

    def reference_of(self, row: Row) -> Any | Unfit:
        """Return the right answer of a row: its column `reference`, or its response."""
        if self.reference is None:
            return row.response
        value = row.values.get(self.reference)
        return Unfit("no reference", f"the column {self.reference!r} is empty") if value in (None, "") else value


def binary(right: bool, parsed: str, failure: str = WRONG) -> Grade:
    """Return the grade of an answer that is right or wrong."""
    return Grade(float(right), PASSED if right else failure, parsed)


def collapse(text: str) -> str:
    """Return the text in Unicode's composed form, with single spaces between words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def loosely(text: str) -> str:
    """Return the text without case, and without punctuation around it. A sign before or behind a word is a part of it: `-5`, `a+`, `c#`, `50%`."""
    text, longer = collapse(text).casefold().replace("−", "-"), ""
    while text != longer:
        longer, text = text, text.strip(AROUND)
        text = text[bullet.end() :] if (bullet := BULLET.match(text)) else text
        if len(text) > 2 and PAIRS.get(text[0]) == text[-1]:
            text = text[1:-1]
    return text


def place_of(text: str, known: Sequence[str]) -> int | None:
    """Return the place of the text that is equal, to the letter or loosely, or at last but for signs of currency and shares.

    None if none is, or several are.
    """
    for plain in (collapse, loosely, lambda each: loosely(each).strip("$€£¥%")):
        wanted = plain(text)
        if places := [place for place, each in enumerate(known) if plain(each) == wanted != ""]:
            return places[0] if len(places) == 1 else None
    return None


def named_in(text: str, known: Sequence[str]) -> set[str]:
    """Return the loose texts that a loose text holds as words or whole numbers; one that stands within a longer one is not held by that."""
    longest = "|".join(re.escape(each) for each in sorted(known, key=len, reverse=True) if each)
    return set(re.findall(rf"{STARTS}(?:{longest}){ENDS}", text)) if longest else set()
