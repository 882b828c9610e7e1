"""Monitors: statistical tests of whether incoming data have the same distribution as a reference, by figures of single items.

A monitor's folder holds `SPEC = MonitorSpec(config=…, sees=…, unit=…)` and `METHOD = Monitor(fit=…, score=…)`. It is given figures
and no texts. `fit` keeps what it needs of the reference's figures, and may use the tasks of the items. `score` returns the distance of incoming
items from the reference, and its p-value. The caller compares the p-value with a significance level; a monitor has none. Neither function
changes its arguments, and equal figures and seeds give equal findings.
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
"""The fewest items that a finding needs."""


@dataclass(frozen=True)
class Finding:
    """The distance of incoming data from the reference."""

    value: float
    """The distance, with an expectation of 0 if both have the same distribution."""
    chance: float
    """The p-value: the probability of at least this distance if all items have the same distribution; exact for any distribution."""
    low: float | None = None
    """`low` and `high`: the 95 % confidence interval of `value`, if the monitor has one."""
    high: float | None = None
    new: tuple[int, ...] = ()
    """The places of incoming items that resemble nothing in the reference, if the monitor names such items."""


@dataclass(frozen=True, kw_only=True)
class MonitorSpec(Spec):
    """The facts about a monitor."""

    sees: Literal["embeddings", "losses", "states"]
    """The figures of an item: the embedding of its prompt, D of them; the nats and the tokens of its text under the model, two; or the mean hidden
    states of its prompt in some layers of the model's base, (L, H)."""
    unit: str
    """The unit of `value`."""
    names_new: bool = False
    """True if the monitor also judges single items: `Finding.new`."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """One way of detecting that data have changed."""

    fit: Callable[[NDArray[np.float32], Sequence[str], Any], Any]
    """The figures of the reference, (N, D), the task of each item, and a config → the fitted reference."""
    score: Callable[[Any, NDArray[np.float32], int], Finding]
    """The fitted reference, the incoming items, (M, D), and a seed → the finding. Raises ValueError below `FEW` items."""


class MonitorConfig(Config):
    """The `monitor` section of params.yaml. No stage reads it, so it changes no byte of a result."""

    methods: tuple[str, ...] = Field(("mmd", "loss_gap"), min_length=1)
    """The monitors to run."""
    incoming: Path | None = None
    """The table, or the folder of tables, of incoming prompts or examples; `ratchet monitor FILE…` reads others instead."""
    alpha: float = Field(0.01, gt=0, lt=1)
    """The probability of a false alarm by any of the monitors if nothing has changed; each has an equal share of it."""
    max_items: int = Field(500, ge=FEW)
    """The largest number of incoming items that are compared; with more, the seed chooses among them."""
    reference_items: int = Field(1000, ge=FEW)
    """The largest number of reference items that they are compared with; with more, the seed chooses among them."""
    seed: int = 0
    """Seed for the choice of items and for the relabellings."""
