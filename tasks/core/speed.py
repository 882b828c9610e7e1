"""The speed of a machine from a small measurement, and of GPUs from the vendors' data sheets."""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The speed of a model of one width."""

    hidden: int
    read_ops_per_s: float
    """Operations per second of a forward pass, counted as 2 for each parameter and token."""
    train_ops_per_s: float
    """Operations per second of a forward and a backward pass, counted as 6 for each parameter and token."""


@dataclass(frozen=True)
class Speed:
    """The speed of a machine at one precision and number of threads, measured by `tasks.machine_speed`."""

    start_s: float
    """Seconds from the start of a process until it has imported the libraries of stages."""
    narrow: Pace
    wide: Pace
    layer_s: float
    """Seconds of a layer for the next token of each answer of a batch, in addition to the time to read its weights."""
    bytes_per_s: float
    """Bytes of weights that are read from memory per second."""

    def pace(self, hidden: float) -> Pace:
        """Return the speed of a model of another width, interpolated between the measured widths on logarithmic scales."""
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


@dataclass(frozen=True)
class Gpu:
    """Figures of a data sheet."""

    tflops: float
    """Peak operations per second of dense bf16 products."""
    terabytes_per_s: float
    """Of its memory."""
    gigabytes: int
    """Of its memory."""


GPUS = {
    "B200": Gpu(2250, 8.0, 180),
    "H200 NVL": Gpu(835, 4.8, 141),
    "H200": Gpu(989, 4.8, 141),
    "H100 NVL": Gpu(835, 3.9, 94),
    "H100 PCIe": Gpu(756, 2.0, 80),
    "H100": Gpu(989, 3.35, 80),
    "A100": Gpu(312, 2.0, 80),
    "MI300X": Gpu(1307, 5.3, 192),
    "L40S": Gpu(362, 0.86, 48),
    "L4": Gpu(121, 0.3, 24),
    "A10G": Gpu(70, 0.6, 24),
    "RTX 4090": Gpu(165, 1.0, 24),
}
"""Words of a GPU's name → its figures. The first entry whose words are all in the name counts."""
PARTIAL = {"MIG", "Laptop"}
"""Words in the name of a GPU that mark a slower variant of the one in the table."""


def gpu(name: str) -> Gpu | None:
    """Return the figures of the GPU of this name; None if the table does not have it."""
    words = set(re.split(r"[\s-]+", name))
    if words & PARTIAL:
        return None
    return next((gpu for key, gpu in GPUS.items() if words.issuperset(key.split())), None)
