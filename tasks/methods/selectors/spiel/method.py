"""Functions of SpIEL. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from tasks.core.training import Moment, Probe
from tasks.core.weights import deltas
from tasks.core.weights.deltas import DeltaLinear
from tasks.core.weights.surgery import plain
from tasks.methods.selectors import Selector
from tasks.methods.selectors._weights import trained_linears
from tasks.methods.selectors.spiel.config import SpielConfig
from tasks.methods.selectors.spiel.memory import MEMORIES, Accumulated, memory_of


def choose(model: nn.Module, config: SpielConfig, probe: Probe, seed: int) -> None:
    """Freeze `model` and let randomly drawn entries of its linear layers train.

    Raises ValueError if those weights do not train, as under an adapter, or if the density gives no entry or more than there are.
    """
    layers = trained_linears(model, config.targets, "spiel")
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    everything, targeted = sum(p.numel() for p in plain(model).parameters()), sum(sizes.values())
    budget = int(config.density * everything)
    if not targeted / min(sizes.values()) <= budget <= targeted:
        raise ValueError(
            f"spiel.density {config.density:g} selects {budget:,} of {everything:,} weights. The layers in spiel.targets have "
            f"{targeted:,}, and each of them needs at least one."
        )
    draw = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name, size in sizes.items():
        count = int(budget * size / targeted)
        index = torch.randperm(size, generator=draw)[:count].sort().values
        layer = deltas.put(model, name, "entries", index)
        layer.memory = MEMORIES[config.criterion](layer)


def on_step(moment: Moment, config: SpielConfig) -> None:
    """Record the gradients of the previous step, change the entries if it is due, and watch the next step if its gradient counts."""
    if not config.period:
        return
    step = moment.step
    for layer in deltas.deltas(moment.model).values():
        memory = memory_of(layer)
        memory.take_in(layer)
        if step % config.period == config.accumulate:
            _reselect(layer, moment, config)
        if isinstance(memory, Accumulated) and (step == 0 or step % config.period == config.period - 1):
            memory.begin()
        layer.watcher = partial(memory.watch, layer) if watches(step, config) else None


def watches(step: int, config: SpielConfig) -> bool:
    """Return whether the gradient of the step after `step` steps counts.

    A phase of AG ends A steps after a multiple of R and, except for the first phase, begins one step before it; MA uses every step.
    """
    return config.criterion == "ma" or step % config.period in (*range(config.accumulate), config.period - 1)


def share(step: int, steps: int, config: SpielConfig) -> float:
    """Return p, the share of the entries that is dropped after `step` of `steps` steps."""
    if config.policy == "cosine":
        return config.rate * (1 + math.cos(math.pi * step / steps)) / 2
    return 1.0 if step == config.accumulate else config.rate * (1 - step / steps)


@torch.no_grad()
def _reselect(layer: DeltaLinear, moment: Moment, config: SpielConfig) -> None:
    """Drop the weakest entries of a layer, grow others, and initialise their optimizer state."""
    weakest_M = (
        layer.delta.abs().topk(int(len(layer.index) * share(moment.step, moment.steps, config)), largest=False).indices
    )
    state = moment.optimizer.state.get(layer.delta, {})
    growth = memory_of(layer).grown(layer, weakest_M, state)
    layer.move(growth.places_M, growth.entries_M)
    betas = next(group for group in moment.optimizer.param_groups if _holds(group, layer.delta)).get("betas", ())
    for key, value_M, beta in zip(("exp_avg", "exp_avg_sq"), (growth.mean_M, growth.square_M), betas, strict=False):
        if key in state:
            state[key][growth.places_M] = value_M * (1 - beta ** float(state["step"]))


def _holds(group: dict[str, Any], parameter: nn.Parameter) -> bool:
    return any(parameter is one for one in group["params"])


METHOD = Selector(choose=choose, on_step=on_step)
