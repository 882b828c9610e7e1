"""Monitors: tests of whether incoming data are drawn as the reference was, by figures of single items.

A monitor's folder holds `SPEC = MonitorSpec(config=…, sees=…, unit=…)` and `METHOD = Monitor(fit=…, score=…)`. It sees figures
and no texts: `fit` keeps what it needs of the reference's, whose tasks it may go by, `score` says how far others are from it, and how likely they would
be as far by chance alone. Whoever asks compares that chance with a level of its own; a monitor knows none. Neither changes what
it is given, and equal figures and seeds have equal findings.
Shapes: N = items of the reference, M = items that came in, D = figures of an item, L = layers, H = hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.config import Config
from tasks.methods import Spec

FEW = 5
"""Items below which nothing is said."""


@dataclass(frozen=True)
class Finding:
    """The distance of incoming data from the reference."""

    value: float
    """0 where both are alike on average."""
    chance: float
    """The p-value: the probability that both are as far apart though all items are drawn alike; exact for any distribution."""
    low: float | None = None
    """The 95 % interval of `value`, where the monitor has one."""
    high: float | None = None
    new: tuple[int, ...] = ()
    """The places of incoming items that are of nothing in the reference, where the monitor names them."""


@dataclass(frozen=True, kw_only=True)
class MonitorSpec(Spec):
    """The facts about a monitor."""

    sees: Literal["embeddings", "losses", "states"]
    """The figures of an item: the embedding of its prompt, D of them; the nats and the tokens of its text under the model, two; or the mean hidden
    states of its prompt in some layers of the model's base, (L, H)."""
    unit: str
    """The unit of `value`."""
    names_new: bool = False
    """True where it judges single items too: `Finding.new`."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """One way of telling that data have changed."""

    fit: Callable[[NDArray[np.float32], Sequence[str], Any], Any]
    """The figures of the reference, (N, D), the task of each item, and a config → what is kept of them."""
    score: Callable[[Any, NDArray[np.float32], int], Finding]
    """The kept reference, the items that came in, (M, D), and a seed → the finding. Raises ValueError below `FEW` items."""


class MonitorConfig(Config):
    """The `monitor` section of params.yaml. No stage reads it: what it says changes no byte of a result."""

    methods: tuple[str, ...] = Field(("mmd", "loss_gap"), min_length=1)
    """The monitors that are asked."""
    incoming: Path | None = None
    """The table, or the folder of tables, where prompts or examples come in; `ratchet monitor FILE…` names others."""
    alpha: float = Field(0.01, gt=0, lt=1)
    """The chance that all monitors together cry out once though nothing has changed; each has an equal share."""
    max_items: int = Field(500, ge=FEW)
    """The most items that came in that are looked at, chosen by the seed, …"""
    reference_items: int = Field(1000, ge=FEW)
    """… and the most of those that they are held against."""
    seed: int = 0
    """Chooses items where there are more, and relabels them."""
