"""Functions of IST. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tasks.core.config import share_of
from tasks.core.training import Moment, Probe
from tasks.core.weights.surgery import decoder_layers, evaluating
from tasks.methods.selectors import Selector
from tasks.methods.selectors._turns import let_train
from tasks.methods.selectors.ist.config import IstConfig


def choose(model: nn.Module, config: IstConfig, probe: Probe, seed: int) -> None:
    """Leave every parameter as it is, since each may be drawn."""


def on_step(moment: Moment, config: IstConfig) -> None:
    """Update the scores if it is due, then let only the layers that are drawn for this step train.

    Raises ValueError if the adapter trains no tensor in which its update is linear, or does so in too few layers to compare.
    """
    linear = {parameter for name, parameter in moment.model.named_parameters() if name in moment.linear}
    layers = [layer for layer in decoder_layers(moment.model) if any(p in linear for p in layer.parameters())]
    if not layers:
        raise ValueError(
            "selector 'ist' scales updates by tensors that they are linear in, and with these settings the adapter trains none of them. "
            "Let the adapter train them, or take another selector."
        )
    if math.comb(len(layers), count := _count(len(layers), config.suppressed)) < config.sets:
        raise ValueError(
            f"ist.sets is {config.sets}, and {len(layers)} layers with an adapter have only {math.comb(len(layers), count)} sets of "
            f"{count}. Lower ist.sets, or adapt more layers."
        )
    unimportance: list[float] = moment.state.setdefault("unimportance", [0.0] * len(layers))
    draw = random.Random(f"{moment.seed}/{moment.step}")
    if moment.step and moment.step % config.period == 0:
        updates = [[p for p in layer.parameters() if p in linear] for layer in layers]
        sets = different(unimportance, count, config.sets, draw)
        batch = draw.choice(moment.probe.batches)
        with evaluating(moment.model), torch.no_grad():
            losses = []
            for suppressed in sets:
                with scaled((p for number in suppressed for p in updates[number]), config.factor):
                    losses.append(moment.probe.losses(moment.model, batch).mean().item())
        unimportance = moment.state["unimportance"] = updated(unimportance, sets, losses, config.rate)
    moment.state["layers"] = drawn(unimportance, _count(len(layers), config.trained), lambda score: -score, draw)
    known = {parameter for group in moment.optimizer.param_groups for parameter in group["params"]}
    let_train([[p for p in layer.parameters() if p in known] for layer in layers], moment.state["layers"])


def _count(layers: int, share: float) -> int:
    return max(1, share_of(layers, share))


def drawn(scores: Sequence[float], count: int, sign: Callable[[float], float], draw: random.Random) -> list[int]:
    """Return `count` different layers, drawn one after the other by the weights sigmoid(`sign`(score)), in ascending order."""
    weights = [_sigmoid(sign(score)) for score in scores]
    places = list(range(len(scores)))
    picked = []
    for _ in range(count):
        (place,) = draw.choices(places, [weights[place] for place in places])
        places.remove(place)
        picked.append(place)
    return sorted(picked)


def different(scores: Sequence[float], count: int, sets: int, draw: random.Random) -> list[list[int]]:
    """Return `sets` different sets of layers to suppress; a set that was drawn before is drawn again."""
    picked: list[list[int]] = []
    while len(picked) < sets:
        if (one := drawn(scores, count, lambda score: score, draw)) not in picked:
            picked.append(one)
    return picked


def updated(
    scores: Sequence[float], sets: Sequence[Sequence[int]], losses: Sequence[float], rate: float
) -> list[float]:
    """Return the scores, updated by the losses that were measured while these sets were suppressed."""
    likelihoods = [math.exp(-loss) for loss in losses]
    mean = sum(likelihoods) / len(likelihoods)
    p = [_sigmoid(score) for score in scores]
    return [
        score
        + sum(rate * (r - mean) * p[i] * (1 - p[i]) for r, chosen in zip(likelihoods, sets, strict=True) if i in chosen)
        for i, score in enumerate(scores)
    ]


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


@contextmanager
def scaled(parameters: Iterable[Tensor], factor: float) -> Iterator[None]:
    """Multiply the parameters by `factor` inside the context, and restore the same bits afterwards."""
    copies = [(parameter, parameter.detach().clone()) for parameter in parameters]
    for parameter, _ in copies:
        parameter.mul_(factor)
    try:
        yield
    finally:
        for parameter, copy in copies:
            parameter.copy_(copy)


METHOD = Selector(choose=choose, on_step=on_step, draws_every=lambda _: 1)
