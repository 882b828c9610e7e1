"""Check `number`: the last number of the answer equals that of the reference.

What comes after the last `####` counts alone, as in GSM8K (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168), and what stands in the
last `\\boxed{…}`. Units and currencies are ignored, thousands may be separated, fractions are compared as what they are.
"""

import re
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary
from tasks.core.records import Unfit

MARK = "####"
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
GAP = "[ \u00a0\u2009\u202f]"
NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+−–]?)\s?[$€£¥]?\s?"
    rf"(?P<whole>\d{{1,3}}(?:,\d{{3}})+|\d{{1,3}}(?:{GAP}\d{{3}})+(?!\d)|\d+|(?=\.\d))"
    r"(?P<decimals>\.\d+)?(?P<power>[eE][-+]?\d{1,3}(?!\w))?"
    r"(?:\s?/\s?(?P<denominator>\d+)(?![\d/]))?"
)
MIXED = re.compile(r"(?<![\d/.])(\d+) (\d+)/(\d+)(?![\d/])")


class Number(AnswerCheck):
    """The last number of the answer equals that of the reference."""

    kind: Literal["number"] = "number"
    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The absolute difference up to which two numbers are equal."""
    relative: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The same as a share of the reference."""
    decimal: Literal[".", ","] = "."
    """The mark of decimals; the other one separates thousands."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        number = last_number(str(reference), self.decimal)
        return Unfit("no number", f"{str(reference)[-60:]!r}") if number is None else str(number)

    def grade(self, answer: str, expected: Any) -> Grade:
        number, right = last_number(answer, self.decimal), Fraction(expected)
        if number is None:
            return Grade(0.0, "no number")
        allowed = max(Fraction(self.tolerance), Fraction(self.relative) * abs(right))
        return binary(abs(number - right) <= allowed, str(number))


def last_number(text: str, decimal: str = ".") -> Fraction | None:
    """Return the number that the text ends on; None if it has none."""
    if MARK in text:
        return _first(text.rpartition(MARK)[2], decimal)
    if boxes := BOXED.findall(text):
        text = boxes[-1]
    numbers = _numbers(text, decimal)
    return numbers[-1] if numbers else None


def _first(text: str, decimal: str) -> Fraction | None:
    return next(iter(_numbers(text, decimal)), None)


def _numbers(text: str, decimal: str) -> list[Fraction]:
    if decimal == ",":
        text = text.translate(str.maketrans(".,", ",."))
    text = LATEX_FRACTION.sub(r" \1/\2 ", text)
    text = MIXED.sub(lambda part: _improper(*map(int, part.groups())), text)
    return [_value(match) for match in NUMBER.finditer(text)]


def _improper(whole: int, part: int, denominator: int) -> str:
    """Return a mixed number, `1 1/2`, as one fraction."""
    return f"{whole * denominator + part}/{denominator}"


def _value(match: re.Match[str]) -> Fraction:
    digits = re.sub(r"\D", "", match["whole"]) or "0"
    value = Fraction(f"{digits}{match['decimals'] or ''}{match['power'] or ''}")
    denominator = int(match["denominator"] or 1)
    value = value / denominator if denominator else value
    return -value if match["sign"] in ("-", "−", "–") else value
