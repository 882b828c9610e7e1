"""How many stages work at once."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def jobs() -> int:
    """The number in RATCHET_JOBS. One by default: a stage that trains uses every core it is given."""
    given = os.environ.get("RATCHET_JOBS", "1")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"RATCHET_JOBS={given}: expected the number of stages that may run at once, 1 or more.")
    return int(given)


class Budget:
    """Slots for stages at work. A slot that comes free goes to the waiting stage that comes first in the plan."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, place: int) -> Iterator[None]:
        """A slot for the stage at `place` of the plan, given back at the end."""
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(lambda: self._free and place == min(self._waiting))
            self._waiting.remove(place)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
