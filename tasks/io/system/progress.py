"""Progress with the remaining time: a bar on a terminal, a line every few seconds elsewhere."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from tasks.core import environment

os.environ.setdefault(
    "TQDM_DISABLE", "1"
)  # tqdm reads it when it is imported: libraries then draw no bars between ours

from tqdm import tqdm

from tasks.core.text.visible import without_passwords

T = TypeVar("T")
EVERY_S = 10.0
"""Seconds between progress lines without a terminal, unless the environment sets another value."""

_listeners: list[Callable[[str], object]] = []


def say(text: str) -> None:
    """Print a line now, above a bar if there is one, without passwords of addresses. The work continues if the reader of a pipe exits (`… | head`)."""
    text = without_passwords(text)
    with suppress(BrokenPipeError):
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    for listener in _listeners:
        listener(text)


@contextmanager
def heard_by(listener: Callable[[str], object]) -> Iterator[None]:
    """Also pass every line that is printed in the block to `listener`."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def track(
    items: Iterable[T],
    *,
    label: str,
    total: int | None = None,
    unit: str = "item",
    status: Callable[[], str] = lambda: "",
) -> Iterator[T]:
    """Yield the items, and show how many have passed, with the text of `status` beside the count."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        bar = tqdm(items, total=total, unit=unit, desc=label, dynamic_ncols=True, leave=False, disable=False)
        for item in bar:
            yield item
            bar.set_postfix_str(status(), refresh=False)
        return
    every_s = float(os.environ.get(environment.PROGRESS_S, EVERY_S))
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            left_s = None if total is None else (now - start) * (total - done) / done
            say(str(Status(label, unit, done, total, left_s, status())))


@dataclass(frozen=True)
class Status:
    """The progress of some work. Its text is a line of a stage's output, which `parse` can read."""

    label: str
    unit: str
    done: int
    total: int | None = None
    left_s: float | None = None
    """The remaining seconds, if the total is known."""
    beside: str = ""
    """Further facts, such as a loss or a rate."""

    def __str__(self) -> str:
        return f"{self.label}: {self.count}{f' · {self.beside}' if self.beside else ''}"

    @property
    def count(self) -> str:
        """Return the count and the remaining time: `step 2 of 10, about 48 s left`."""
        left = f", about {span(self.left_s)} left" if self.left_s is not None and round(self.left_s) else ""
        total = "" if self.total is None else f" of {self.total}"
        return f"{self.unit} {self.done}{total}{left}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the status in a line; None if it is another line."""
        match = _STATUS.fullmatch(text)
        if match is None:
            return None
        total, minutes, seconds = (
            int(part) if (part := match[name]) else None for name in ("total", "minutes", "seconds")
        )
        left_s = None if seconds is None else 60.0 * (minutes or 0) + seconds
        return cls(match["label"], match["unit"], int(match["done"]), total, left_s, match["beside"] or "")


_STATUS = re.compile(
    r"(?P<label>.+?): (?P<unit>[a-z ]+?) (?P<done>\d+)(?: of (?P<total>\d+))?"
    r"(?:, about (?:(?P<minutes>\d+) min )?(?P<seconds>\d+) s left)?(?: · (?P<beside>.+))?"
)


def span(seconds: float) -> str:
    """Format a length of time: `12 s`, `3 min 05 s`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
