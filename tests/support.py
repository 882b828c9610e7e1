"""Helpers for tests of many stages."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from tasks.core.text.calls import Call

T = TypeVar("T")
NOTHING_DECIDED = Path(os.devnull)
"""A file of review decisions that is empty."""


class ScratchRun:
    """A `Run` that records what a stage prints, notes and logs."""

    def __init__(self, work: Path, item: str | None = None) -> None:
        self.item, self._work = item, work / "work"
        self.said: list[str] = []
        self.notes: dict[str, Any] = {}
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self._sums: dict[str, float] = defaultdict(float)
        self.calls: list[Call] = []
        self.statuses: list[str] = []
        self.tracked: list[tuple[str, int | None]] = []
        """For each call of `track`, the unit and the total, if it is known."""

    @property
    def work(self) -> Path:
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work

    @property
    def cache(self) -> Path:
        return self._work.with_name("cache")

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, **params: Any) -> None:
        self.notes |= params

    def log(self, step: int | None = None, **metrics: float) -> None:
        self.metrics.append((step, metrics))

    def add(self, **metrics: float) -> None:
        for name, figure in metrics.items():
            self._sums[name] += figure
        self.log(None, **{name: self._sums[name] for name in metrics})

    def trace(self, call: Call) -> None:
        self.calls.append(call)

    def track(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "item",
        status: Callable[[], str] = lambda: "",
    ) -> Iterator[T]:
        self.tracked.append((unit, len(items) if total is None and isinstance(items, Sized) else total))
        for item in items:
            yield item
            self.statuses.append(status())
