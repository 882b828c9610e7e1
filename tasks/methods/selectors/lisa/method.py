"""Functions of LISA. Equations and the legend of symbols are in the card, `__init__.py`."""

import random
from collections.abc import Sequence
from itertools import chain

from torch import nn

from tasks.core.training import Moment, Probe
from tasks.core.weights.surgery import decoder_layers
from tasks.methods.selectors import Selector
from tasks.methods.selectors._turns import let_train
from tasks.methods.selectors.lisa.config import LisaConfig


def draw(layers: Sequence[int], count: int, seed: int, period: int) -> list[int]:
    """Return the layers that train in the period of this number, in ascending order: a function of the arguments alone."""
    return sorted(random.Random(f"{seed}/{period}").sample(layers, count))


def choose(model: nn.Module, config: LisaConfig, probe: Probe, seed: int) -> None:
    """Leave every parameter as it is, since each may be drawn. Raises ValueError if there are too few layers."""
    layers = [[p for p in layer.parameters() if p.requires_grad] for layer in decoder_layers(model)]
    inside = set(chain(*layers))
    if (count := sum(map(bool, layers))) < config.layers:
        raise ValueError(f"lisa.layers is {config.layers}, and only {count} decoder layers have anything to train.")
    if not config.layers and all(p in inside for p in model.parameters() if p.requires_grad):
        raise ValueError("lisa.layers is 0, and nothing trains outside the decoder layers. Draw at least one.")


def on_step(moment: Moment, config: LisaConfig) -> None:
    """Let only the layers of this period train."""
    known = {parameter for group in moment.optimizer.param_groups for parameter in group["params"]}
    layers = [[p for p in layer.parameters() if p in known] for layer in decoder_layers(moment.model)]
    filled = [number for number, layer in enumerate(layers) if layer]
    drawn = draw(filled, config.layers, moment.seed, moment.step // config.period)
    let_train(layers, drawn)
    if config.state == "drop":
        for parameter in chain(*layers):
            if not parameter.requires_grad:
                moment.optimizer.state.pop(parameter, None)
    moment.state["layers"] = drawn


METHOD = Selector(choose=choose, on_step=on_step, draws_every=lambda config: config.period)
