"""LISA: the embeddings, the final norm and the head always train, and with them a few decoder layers that are redrawn.

Pan et al. 2024, https://arxiv.org/abs/2403.17919, algorithm 1. For i = 0, 1, …: freeze all L decoder layers, draw γ of them
uniformly without replacement, so that each has probability p = γ / L, and make K ordinary steps with those. Despite the name
nothing is scored: in LoRA runs the ends of a model move most, and LISA copies that as probabilities, 1 at the ends and p between.

Over an adapter the layers are those of its weights. What trains outside the decoder layers, whatever it is, always does.
Our design, not the paper's: `state: drop` is the default. The authors' runs restarted at each draw, to the same effect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import decoder_layers
from tasks.core.training import Moment, Probe
from tasks.methods.selectors import Selector

if TYPE_CHECKING:
    from torch import nn


class LisaParams(Params):
    """The `methods.lisa` section."""

    layers: int = Field(2, ge=0)
    """γ: decoder layers that train at a time."""
    period: int = Field(20, ge=1)
    """K: optimizer steps between draws."""
    state: Literal["drop", "keep"] = "drop"
    """What becomes of the optimizer's state of a layer that is not drawn again. `drop`: it is freed, and starts anew when the layer
    is back. `keep`: it stays, and memory grows towards that of full fine-tuning."""


def draw(layers: Sequence[int], count: int, seed: int, period: int) -> list[int]:
    """The layers that train in the period of this number, in ascending order: a function of its arguments alone."""
    return sorted(random.Random(f"{seed}/{period}").sample(layers, count))


def choose(model: nn.Module, params: LisaParams, probe: Probe, seed: int) -> None:
    """Leave every parameter as it is, since each may have its turn. Raises ValueError where there are too few layers."""
    layers = [[p for p in layer.parameters() if p.requires_grad] for layer in decoder_layers(model)]
    inside = set(chain(*layers))
    if (count := sum(map(bool, layers))) < params.layers:
        raise ValueError(f"lisa.layers is {params.layers}, and only {count} decoder layers have anything to train.")
    if not params.layers and all(p in inside for p in model.parameters() if p.requires_grad):
        raise ValueError("lisa.layers is 0, and nothing trains outside the decoder layers. Draw at least one.")


def on_step(moment: Moment, params: LisaParams) -> None:
    """Let the layers of this period train, and no others."""
    optimizer = moment.optimizer
    known = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    layers = [[p for p in layer.parameters() if p in known] for layer in decoder_layers(moment.model)]
    filled = [number for number, layer in enumerate(layers) if layer]
    drawn = draw(filled, params.layers, moment.seed, moment.step // params.period)
    active = {parameter for number in drawn for parameter in layers[number]}
    for parameter in chain(*layers):
        parameter.requires_grad_(parameter in active)
        if parameter not in active:
            parameter.grad = None
            if params.state == "drop":
                optimizer.state.pop(parameter, None)
    moment.state["layers"] = drawn


METHOD = Selector(params=LisaParams, choose=choose, on_step=on_step, alone="what trains changes from step to step")
