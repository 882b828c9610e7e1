"""Format figures for people: a value with its interval in brackets, in the unit of its row."""

import math

from tasks.core.statistics import Estimate

PER_CENT = "share"
"""The unit whose values are shown in per cent; differences are percentage points."""
NO_INTERVAL = "[no interval]"
UNKNOWN = "–"
"""Shown for a value that was not measured."""
NO_NUMBER = "no number"
"""Shown for a value that is NaN or infinite."""


def level(estimate: Estimate, unit: str) -> str:
    """Format a value with its interval: `1.234 [1.200, 1.270]`."""
    return f"{number(estimate.value, unit)} {interval(estimate, unit)}"


def interval(estimate: Estimate, unit: str) -> str:
    """Format an interval: `[1.200, 1.270]`."""
    if not _bounded(estimate):
        return NO_INTERVAL
    return f"[{number(estimate.low, unit)}, {number(estimate.high, unit)}]"


def change(difference: Estimate, unit: str) -> str:
    """Format a difference with its interval, with a sign at every figure: `−0.215 [−0.240, −0.190]`."""
    value = signed(difference.value, unit)
    if not _bounded(difference):
        return f"{value} {NO_INTERVAL}"
    return f"{value} [{signed(difference.low, unit)}, {signed(difference.high, unit)}]"


def number(value: float, unit: str = "") -> str:
    """Format a value in its unit: losses with four digits, shares in per cent."""
    if not math.isfinite(value):
        return NO_NUMBER
    if unit == PER_CENT:
        return _minus(f"{100 * value:.1f}")
    return _minus(f"{value:.{3 if abs(value) < 9.9995 else 2}f}")


def signed(value: float, unit: str = "") -> str:
    """Format a value with `+` or `−`; a value that rounds to zero has neither."""
    text = number(value, unit)
    if not math.isfinite(value):
        return text
    if float(text.replace("−", "-")) == 0:
        return text.removeprefix("−")
    return text if value < 0 else f"+{text}"


def p_value(p: float) -> str:
    """Format a p-value: `0.031`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def mebibytes(size: int | None) -> str:
    """Format a size in MiB, with one decimal."""
    return UNKNOWN if size is None else f"{size / 2**20:,.1f}"


def count(number: int | None) -> str:
    """Format a number of things; a dash if it was not measured."""
    return UNKNOWN if number is None else f"{number:,}"


def _bounded(estimate: Estimate) -> bool:
    return math.isfinite(estimate.low) and math.isfinite(estimate.high)


def _minus(text: str) -> str:
    """Return text with a typographic minus, which is as wide as a plus, and without a minus before zero."""
    return text.replace("-", "−") if float(text) != 0 else text.replace("-", "")
