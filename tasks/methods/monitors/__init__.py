"""Monitors: whether what comes in is drawn as the reference was, as far as figures of single items tell.

A monitor's file holds `METHOD = Monitor(…)`. It sees figures and no texts: `fit` keeps what it needs of the reference's, `score`
says how far others are from it, and how likely they would be as far by chance alone. Whoever asks compares that chance with a level
of its own; a monitor knows none. Neither changes what it is given, and equal figures and seeds have equal findings.
Shapes: N = items of the reference, M = items that came in, D = figures of an item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.params import Params

FEW = 5
"""Items below which nothing is said."""


@dataclass(frozen=True)
class Finding:
    """How far what came in is from the reference."""

    value: float
    """0 where both are alike on average."""
    chance: float
    """How often both would be as far apart, were all items drawn alike: a p-value, exact whatever the distribution."""
    low: float | None = None
    """The 95 % interval of `value`, where the monitor has one."""
    high: float | None = None


@dataclass(frozen=True)
class Monitor:
    """One way of telling that data have changed."""

    params: type[Params]
    sees: Literal["embeddings", "losses"]
    """The figures of an item: the embedding of its prompt, D of them; or the nats and the tokens of its text under the model, two."""
    unit: str
    """Of `value`."""
    fit: Callable[[NDArray[np.float32], Any], Any]
    """What is kept of the reference, (N, D)."""
    score: Callable[[Any, NDArray[np.float32], int], Finding]
    """What was kept, the items that came in, (M, D), and a seed → the finding. Raises ValueError below `FEW` items."""
    wraps: str = ""
    """The library class that does it."""


class MonitorParams(Params):
    """The `monitor` section of params.yaml. No stage reads it: what it says changes no byte of a result."""

    methods: tuple[str, ...] = Field(("mmd", "loss_gap"), min_length=1)
    """The monitors that are asked."""
    incoming: Path | None = None
    """The table, or the folder of tables, where prompts or examples come in; `ratchet monitor FILE…` names others."""
    alpha: float = Field(0.01, gt=0, lt=1)
    """The chance that all monitors together cry out once though nothing has changed; each has an equal share."""
    max_items: int = Field(500, ge=FEW)
    """At most so many of the items that came in are looked at, chosen by the seed, …"""
    reference_items: int = Field(1000, ge=FEW)
    """… and so many of those that they are held against."""
    seed: int = 0
    """Chooses items where there are more, and relabels them."""
