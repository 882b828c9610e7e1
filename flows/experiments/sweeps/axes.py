"""Read the axes of a sweep: `SETTING=VALUE,VALUE`, `SETTING=0..4` for whole numbers, `SETTING=1e-4..1e-2` for a span from which values are drawn."""

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MOST = 10_000
"""Largest number of values in a range of whole numbers."""
FORM = "`--set SETTING=VALUE,VALUE`, or `--set SETTING=FIRST..LAST`"
SPAN = re.compile(r"(?P<first>[-+.\deE]+?)\.\.(?P<last>[-+.\deE]+)")
DECADE = 10
"""If the ends of a span are positive and differ by this factor or more, values are drawn on a logarithmic scale."""
DIGITS = 3
"""Significant digits of a drawn number, so that people can read and repeat it."""


@dataclass(frozen=True)
class Span:
    """A span of numbers from which values are drawn."""

    low: float
    high: float

    @property
    def is_logarithmic(self) -> bool:
        """Return True if values are drawn on a logarithmic scale."""
        return self.low > 0 and self.high >= DECADE * self.low

    def draw(self, source: random.Random) -> float:
        """Draw a number from the span."""
        if self.is_logarithmic:
            return self.rounded(math.exp(source.uniform(math.log(self.low), math.log(self.high))))
        return self.rounded(source.uniform(self.low, self.high))

    def rounded(self, value: float) -> float:
        """Return a number of the span, rounded to few digits."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Axis:
    """A setting and its values."""

    setting: str
    values: tuple[Any, ...] = ()
    """The values; empty if there is a span."""
    span: Span | None = None

    @property
    def examples(self) -> tuple[Any, ...]:
        """Return values for checking the setting: all of them, or the ends of its span."""
        return (self.span.low, self.span.high) if self.span else self.values


def read(texts: Sequence[str]) -> list[Axis]:
    """Return an axis for each `--set`. Raises ValueError if one is malformed or empty, or if a setting is named twice."""
    axes = [_axis(text) for text in texts]
    names = [axis.setting for axis in axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice}: it is set twice. Write all its values in one `--set`.")
    return axes


def _axis(text: str) -> Axis:
    setting, equals, values = text.partition("=")
    setting = setting.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", setting):
        raise ValueError(f"--set {text}: this names no setting and values. Write {FORM}.")
    try:
        items = [_number_or(item) for item in yaml.safe_load(f"[{values}]")]
    except yaml.YAMLError:
        raise ValueError(f"{setting}: {values!r} is not a list of values. Write {FORM}.") from None
    if not items:
        raise ValueError(f"{setting}: there is no value. Write {FORM}.")
    try:
        json.dumps(items)
    except TypeError:
        raise ValueError(
            f"{setting}: {values} holds a date or the like, which no setting is. Put it into quotes."
        ) from None
    expanded = [value for item in items for value in _expanded(setting, item)]
    spans = [value for value in expanded if isinstance(value, Span)]
    if spans and len(expanded) > 1:
        raise ValueError(
            f"{setting}: a span of numbers must be the only value (found {values}). Name the values instead."
        )
    if spans:
        return Axis(setting, span=spans[0])
    different: dict[str, Any] = {}
    for value in expanded:
        different.setdefault(_identity(value), value)
    return Axis(setting, tuple(different.values()))


def _identity(value: Any) -> str:
    """Return a text that is the same for equal values. 8 and 8.0 train the same model, and a seed that counts twice makes intervals too narrow."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _expanded(setting: str, item: Any) -> Sequence[Any]:
    match = SPAN.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        return [item]
    first, last = (_number_or(match[name]) for name in ("first", "last"))
    if isinstance(first, str) or isinstance(last, str):
        return [item]
    if last < first:
        raise ValueError(f"{setting}: the range {item} is empty. Did you mean {match['last']}..{match['first']}?")
    if isinstance(first, int) and isinstance(last, int):
        if last - first >= MOST:
            raise ValueError(f"{setting}: the range {item} has {last - first + 1:,} values. {MOST:,} are the most.")
        return range(first, last + 1)
    return [Span(float(first), float(last))]


def _number_or(item: Any) -> Any:
    """Return the number in a text such as `1e-3`, which YAML reads as a string; else the item itself."""
    if not isinstance(item, str):
        return item
    for kind in (int, float):
        try:
            number = kind(item)
        except ValueError:
            continue
        return number if math.isfinite(number) else item
    return item
