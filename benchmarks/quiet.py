"""Run context of a stage that logs nothing."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tasks.core.text.calls import Call

T = TypeVar("T")


class Quiet:
    """Run context with folders; messages, metrics and progress are dropped."""

    item = "r1"

    def __init__(self, folder: Path) -> None:
        self.work, self.cache = folder / "work", folder / "cache"
        self.work.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None: ...

    def note(self, **params: Any) -> None: ...

    def log(self, step: int | None = None, **metrics: float) -> None: ...

    def add(self, **metrics: float) -> None: ...

    def trace(self, call: Call) -> None: ...

    def track(
        self, items: Iterable[T], *, total: int | None = None, unit: str = "item", status: Callable[[], str] = str
    ) -> Iterator[T]:
        yield from items
