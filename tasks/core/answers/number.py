"""Check `number`: the last number of the answer equals that of the reference.

If the answer has `####` before a number, only the text after the last one counts, as in GSM8K (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168).
If it has `\\boxed{…}`, only the text in the last one counts. Units, their exponents, currencies and separators of thousands are ignored. Fractions
and powers of ten are compared by value, and `5 ± 0.1` is 5. A time, a date or a range is not a number. `2 million` is 2000000, and also equals 2 if
the other number has no such word, because a question may ask for millions.
"""

import re
import unicodedata
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from pydantic import Field

from tasks.core.answers.base import AnswerCheck, Grade, Row, binary
from tasks.core.records import Unfit

MARK = "####"
HEADING = r"\W{0,20}\d{1,2}[.)][ \t]+[^\W\d][^\n]{0,200}[^\s.!?][ \t\r]*\n"
_WRAPPED = r"(?:(?:boxed|[dt]?frac)\W{0,20}){0,3}"
_NAMING = r"(?:[:=]|\b(?:is|are|was|equals)\b)"
_WITHIN = r"(?:[^\n,;(—]|—[ \t]+[$€£]?\d)*"  # the sign of a sum; a dash before a number may be its minus sign
_ON_LINE = rf"{_NAMING}[^\w\n]{{0,20}}{_WRAPPED}\d(?![\d.,/]*{_WITHIN}(?:[+×÷*=]|\\times)\s*[-−–]?[$€£]?\d)"
_ANSWER = r"[^\d\n]{0,80}?\b(?i:answers?)\b[^\d\n]{0,80}?"
_NONE_BELOW = rf"(?![^\n]*\n(?s:.*?)(?:{_NAMING}|\b(?i:answer)\b|\bboxed\b)[^\d\n]{{0,20}}\d)"
MARKED = re.compile(rf"{MARK}(?!{HEADING})(?=\W{{0,20}}{_WRAPPED}\d|{_ANSWER}{_ON_LINE})")
"""The mark before a number, or before the word `answer` and its number. Before other words or the number of a section, it is the mark of a heading."""
LABELLED = re.compile(rf"{MARK}(?=[^\d\n]{{0,80}}?{_ON_LINE}){_NONE_BELOW}")
"""The mark before another label and its number, except for the number of a sum. If a later line names a number, it is the heading of a step."""
DASH = re.compile(
    r"(?<!\s)(?<!=)(?<!\bis)(?<!\bare)(?<!\bwas)(?<!\bequals)(?P<space>\s*\n[ \t]*|(?<=[\w*)\]%])[ \t]+)[-–](?=[ \t])"
)
"""A dash that is not a minus sign: at the start of a later line, or between a word and the text after it, but not after a verb or `=`."""
LATEX_COMMA = re.compile(r"\{,\}|,\\!")
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
FRACTION_SIGN = re.compile(r"(\d?)[ \u2009\u202f]?([¼-¾⅐-⅞])")
RAISED = re.compile(r"(?<=10)([⁺⁻]?)([⁰¹²³⁴-⁹]{1,3})")
TEN = re.compile(
    r"(?:(?P<digit>\d)\s{0,3}(?:[x×·⋅*]|\\times|\\cdot)\s{0,3}|(?<![\w.,^]))"
    r"10\s?(?:\^|\*\*)\s?(?P<brace>\{\s?)?(?P<minus>[-−–]?)\+?(?P<power>\d{1,3})(?!\.?\d)(?(brace)\s?\})"
)
"""A power of ten, alone or after the digits that it multiplies."""
UNIT_POWER = re.compile(
    r"((?<![^\W\d])(?:[kcdmnµμ]?m|s|in|ft|yd|mi|inch(?:es)?|feet|units?|(?:centi|kilo)?met(?:er|re)s?)"
    r"|\\(?:text|mathrm|mbox)\s?\{[^{}\n]{0,40}\})\s?\^\s?(?:\{\s?[-−–]?\d\s?\}|[-−–]?\d(?!\d))"
)
"""A unit with its exponent."""
GAP = "[ \u00a0\u2009\u202f]"
UNCERTAINTY = re.compile(
    r"(?<=\d)(?P<unit>\s?(?!and\b|or\b|und\b|oder\b)(?:[^\W\d]{1,4}|[%°])?)\s?(?:±|\+/[-−]|\\pm)\s?\d+(?:[.,]\d+)*"
)
"""How far a number may be off: `5 ± 0.1` is 5."""
JOINED = re.compile(r"(?<!\d)\d+(?:(?::\d+)+|[-–][$€£]?\d+|(?P<part>[-–/.])\d{1,2}(?P=part)\d+)(?:[-–/.:,]\d+)*")
"""Numbers that are one thing together, which no single number is: a time, a ratio, a range, a date, a version."""
JOINT = "\ue000"
"""Stands for them."""
NUMBER = re.compile(
    rf"{JOINT}|(?<![\w.])(?P<sign>[-+−–]?)\s?[$€£¥]?\s?"
    rf"(?P<whole>\d{{1,2}}(?:,\d\d)+,\d{{3}}(?!\d)|\d{{1,3}}(?:['’٬_]\d{{3}})+(?!\d)|\d{{1,3}}(?:,\d{{3}})+|\d{{1,3}}(?:{GAP}\d{{3}})+(?!\d)|\d+|(?=\.\d))"
    r"(?P<decimals>\.\d+)?(?P<power>[eE][-+]?\d{1,3}(?!\w))?"
    r"(?:\s?/\s?(?P<denominator>\d+)(?![\d/]))?"
)
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
SCALE = re.compile(rf"(?:[ \u00a0\u2009-]|\\(?:text|mathrm)\s?\{{\s?){{1,3}}({'|'.join(SCALES)})s?\b", re.IGNORECASE)
"""A word after a number that multiplies it."""
TIMES = " × "
LONGEST = 3000
"""Largest number of characters of a number. Python prints integers of up to 4,300 digits, and a power may add 999."""
MIXED = re.compile(r"(?<![\d/.])(\d+) (\d+)/(\d+)(?![\d/])")


class Number(AnswerCheck):
    """The last number of the answer equals that of the reference."""

    kind: Literal["number"] = "number"
    tolerance: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The absolute difference up to which two numbers are equal."""
    relative: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The relative difference, as a share of the reference, up to which two numbers are equal."""
    decimal: Literal[".", ","] = "."
    """The decimal mark. The other mark separates thousands."""

    def expect(self, row: Row) -> str | Unfit:
        reference = self.reference_of(row)
        if isinstance(reference, Unfit):
            return reference
        quantity = last_quantity(str(reference), self.decimal)
        return Unfit("no number", f"{str(reference)[-60:]!r}") if quantity is None else quantity.written()

    def grade(self, answer: str, expected: Any) -> Grade:
        quantity, right = last_quantity(answer, self.decimal), Quantity.read(expected)
        if quantity is None:
            return Grade(0.0, "no number")
        for number in quantity.readings(right):
            if any(abs(number - other) <= self._allowed(other) for other in right.readings(quantity)):
                return binary(True, str(number))
        return binary(False, quantity.written())

    def _allowed(self, right: Fraction) -> Fraction:
        return max(Fraction(self.tolerance), Fraction(self.relative) * abs(right))


class Quantity(NamedTuple):
    """A number, and the factor that a word after it stands for; 1 without such a word."""

    number: Fraction
    scale: int = 1

    def written(self) -> str:
        """Return the quantity as text for `read`: `3/2`, `3/2 × 1000000`."""
        return str(self.number) + (f"{TIMES}{self.scale}" if self.scale > 1 else "")

    @classmethod
    def read(cls, text: str) -> "Quantity":
        """Return the quantity in a text of `written`."""
        number, _, scale = text.partition(TIMES)
        return cls(Fraction(number), int(scale or 1))

    def readings(self, other: "Quantity") -> list[Fraction]:
        """Return the values to compare with another quantity: the number with its factor, and also without it if the other has none."""
        return [self.number * self.scale] + [self.number] * (self.scale > 1 and other.scale == 1)


def last_number(text: str, decimal: str = ".") -> Fraction | None:
    """Return the last number of the text, without the factor of a word after it; None if there is no number."""
    quantity = last_quantity(text, decimal)
    return None if quantity is None else quantity.number


def last_quantity(text: str, decimal: str = ".") -> Quantity | None:
    """Return the last number of the text, with the factor of a word after it; None if there is no number."""
    text = _plain(LATEX_COMMA.sub(",", text).replace("\\,", "\u2009"))
    text = DASH.sub(r"\g<space>—", text)
    if marks := list(MARKED.finditer(text)) or list(LABELLED.finditer(text)):
        return next(iter(_numbers(text[marks[-1].end() :], decimal)), None)
    if boxes := BOXED.findall(text):
        text = boxes[-1]
    numbers = _numbers(text, decimal)
    return numbers[-1] if numbers else None


def _plain(text: str) -> str:
    """Return the text with fraction signs written as `1/2`, powers of ten as `1e6`, and units without exponents."""
    text = FRACTION_SIGN.sub(lambda sign: " ".join(filter(None, (sign[1], _spelt_out(sign[2])))), text).replace(
        "⁄", "/"
    )
    text = RAISED.sub(lambda raised: "^" + _spelt_out(raised[0]).replace("−", "-"), text)
    text = TEN.sub(lambda ten: f"{ten['digit'] or 1}e{'-' * bool(ten['minus'])}{ten['power']} ", text)
    return UNIT_POWER.sub(r"\1", text)


def _spelt_out(sign: str) -> str:
    """Return the plain characters of a sign: `1⁄2` for `½`."""
    return unicodedata.normalize("NFKC", sign)


def _numbers(text: str, decimal: str) -> list[Quantity | None]:
    """Return the numbers in a text; None for those that are joined."""
    text = JOINED.sub(JOINT, UNCERTAINTY.sub(r"\g<unit>", text))
    if decimal == ",":
        text = text.translate(str.maketrans(".,", ",."))
    text = LATEX_FRACTION.sub(r" \1\2/\3\4 ", text)
    text = MIXED.sub(lambda part: _improper(*map(int, part.groups())) if len(part[0]) <= LONGEST else part[0], text)
    return [
        None if match[0] == JOINT else _quantity(match, SCALE.match(text, match.end()))
        for match in NUMBER.finditer(text)
        if len(match[0]) <= LONGEST
    ]


def _quantity(number: re.Match[str], scale: re.Match[str] | None) -> Quantity:
    return Quantity(_value(number), SCALES[scale[1].casefold()] if scale else 1)


def _improper(whole: int, part: int, denominator: int) -> str:
    """Return a mixed number, `1 1/2`, as one fraction."""
    return f"{whole * denominator + part}/{denominator}"


def _value(match: re.Match[str]) -> Fraction:
    digits = re.sub(r"\D", "", match["whole"]) or "0"
    value = Fraction(f"{digits}{match['decimals'] or ''}{match['power'] or ''}")
    denominator = int(match["denominator"] or 1)
    value = value / denominator if denominator else value
    return -value if match["sign"] in ("-", "−", "–") else value
