"""Losses on held-out sets, before, during and after a training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.core.weights.surgery import evaluating, plain
from tasks.engine import device
from tasks.engine.inference import scoring
from tasks.engine.training.batches import Batches

Sets = Mapping[str, Sequence[Encoded]]
"""Held-out sequences by the name of their set."""
SHARE = 0.05
"""The largest share of a training's time that validation takes where no setting says how often."""
COST = 0.5
"""Cost of a forward pass over a token, where training on it is 1: a backward pass costs as much as a forward one, or more."""


def losses(model: nn.Module, sets: Sets, compute: Compute) -> dict[str, float]:
    """Return the model's mean loss on each set that is not empty, in nats per trained token.

    It draws no random numbers and leaves every module in the mode it was in.
    """
    inner: Any = plain(model)
    with evaluating(inner), device.autocast(compute):
        return {name: scoring.mean(scoring.losses(inner, rows)) for name, rows in sets.items() if rows}


def interval(config: Training, batches: Batches, sets: Sets) -> int:
    """Return the steps between two validations during training, beside those at checkpoints; 0 for none."""
    tokens = sum(len(sequence) for rows in sets.values() for sequence in rows)
    if not tokens:
        return 0
    if config.validate_every is not None:
        return config.validate_every
    passes = int(SHARE * batches.tokens_after[-1] / (COST * tokens))
    return math.ceil(batches.steps / passes) if passes else 0
