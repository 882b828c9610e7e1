"""How many stages work at once, and which one begins next."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


def jobs() -> int:
    """The number in RATCHET_JOBS. One by default: a stage that trains uses every core it is given."""
    given = os.environ.get("RATCHET_JOBS", "1")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"RATCHET_JOBS={given}: expected the number of stages that may run at once, 1 or more.")
    return int(given)


class Budget:
    """Slots for stages at work. A free one goes to the stage with the longest chain of others behind it.

    So training, which most of the graph waits for, comes before the measuring of models that are there already. A stage counts
    from the moment when the last that it reads from is done, though its own thread asks for a slot a little later.
    """

    def __init__(self, slots: int, upstream: Mapping[str, Iterable[str]]) -> None:
        """`upstream` maps each stage to those it reads from, which stand before it."""
        self._free = slots
        self._upstream = {stage: frozenset(before) for stage, before in upstream.items()}
        self._order = sorted(upstream, key=_followers(self._upstream).__getitem__, reverse=True)
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, stage: str) -> Iterator[None]:
        """A slot for the stage, when it is its turn, given back at the end. It may be asked for again."""
        with self._changed:
            self._begun.discard(stage)
            self._changed.wait_for(lambda: self._free and stage == self._next())
            self._begun.add(stage)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def done(self, stage: str) -> None:
        """What reads from the stage can begin. Said within the stage's slot, before others are given it."""
        with self._changed:
            self._begun.add(stage)
            self._done.add(stage)
            self._changed.notify_all()

    def _next(self) -> str | None:
        """The stage whose turn it is. What reads from one that failed is never ready."""
        ready = (s for s in self._order if s not in self._begun and self._upstream[s] <= self._done)
        return next(ready, None)


def _followers(upstream: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How many stages come after each, one behind the other."""
    count = dict.fromkeys(upstream, 0)
    for stage in reversed(list(upstream)):
        for before in upstream[stage]:
            count[before] = max(count[before], count[stage] + 1)
    return count
