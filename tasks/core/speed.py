"""The speed of a machine: what a small measurement says of how long stages take."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The pace of a model of one width."""

    hidden: int
    read_ops_per_s: float
    """Operations a second of a forward pass: 2 for each parameter and token."""
    train_ops_per_s: float
    """Operations a second of a forward and a backward pass: 6 for each parameter and token."""


@dataclass(frozen=True)
class Speed:
    """The speed of a machine at one precision and with one number of threads, as `tasks.machine_speed` measures it."""

    start_s: float
    """Seconds from the start of a process until it has imported what stages import."""
    narrow: Pace
    wide: Pace
    layer_s: float
    """Seconds that a layer takes for the next token of each answer of a batch, beside reading its weights."""
    bytes_per_s: float
    """Bytes of weights that are read from memory in a second."""

    def pace(self, hidden: float) -> Pace:
        """Return the pace of a model of another width: between those measured, in proportion on logarithmic scales."""
        narrow, wide = self.narrow, self.wide
        share = math.log(hidden / narrow.hidden) / math.log(wide.hidden / narrow.hidden)
        share = min(max(share, 0.0), 1.0)

        def between(low: float, high: float) -> float:
            return math.exp((1 - share) * math.log(low) + share * math.log(high))

        return Pace(
            round(hidden),
            between(narrow.read_ops_per_s, wide.read_ops_per_s),
            between(narrow.train_ops_per_s, wide.train_ops_per_s),
        )
