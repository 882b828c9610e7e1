"""Progress with the remaining time: a bar on a terminal, a line every few seconds elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TypeVar

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported: libraries draw no bars between ours

from tqdm import tqdm

T = TypeVar("T")
EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""

_listeners: list[Callable[[str], object]] = []


def say(text: str) -> None:
    """Print a line now, above a bar if there is one. The work goes on when the reader of a pipe exits (`… | head`)."""
    with suppress(BrokenPipeError):
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    for listener in _listeners:
        listener(text)


@contextmanager
def heard_by(listener: Callable[[str], object]) -> Iterator[None]:
    """Pass every line that is said meanwhile to `listener` too."""
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
    """Yield the items, and show how many have passed, with what `status` returns beside the count."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        bar = tqdm(items, total=total, unit=unit, desc=label, dynamic_ncols=True, leave=False, disable=False)
        for item in bar:
            yield item
            bar.set_postfix_str(status(), refresh=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= EVERY_S:
            last = now
            rest = "" if total is None else f" of {total}, about {_span((now - start) * (total - done) / done)} left"
            beside = f" · {text}" if (text := status()) else ""
            say(f"{label}: {unit} {done}{rest}{beside}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
