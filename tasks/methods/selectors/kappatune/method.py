"""Functions of KappaTune. Equations and the legend of symbols are in the card, `__init__.py`."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft.helpers import KappaTuneSelector
from peft.utils.integrations import dequantize_bnb_weight
from torch import nn

from tasks.core.config import share_of
from tasks.core.training import Probe
from tasks.core.weights.surgery import base_layer, decoder_layers, owners, plain
from tasks.methods.selectors import Selector
from tasks.methods.selectors.kappatune.config import KappatuneConfig

Shape = tuple[int, int]


def ascending(layers: Mapping[str, nn.Linear], largest: int) -> list[str]:
    """Return the names of the layers by the condition number of their weights, lowest first. Larger layers are left out."""
    names = list(layers)
    selector = KappaTuneSelector(
        nn.ModuleList(map(_scaled, layers.values())), max_dim_size_to_analyze=largest, show_progress=False
    )
    return [names[int(number)] for number in selector.get_best_targets()]


def _scaled(layer: nn.Linear) -> nn.Linear:
    """Return the layer; for int8 weights a layer with dequantised values, since peft's helper would read integers without their scales."""
    if layer.weight.dtype != torch.int8:
        return layer
    plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    state: Any = layer.state
    # not `dequantize_module_weight`, which on a CPU gives the layer a copy of its integers without the scales
    plain.weight = nn.Parameter(dequantize_bnb_weight(layer.weight, state).detach(), requires_grad=False)
    return plain


def pick(ordered: Sequence[str], shape_of: Callable[[str], Shape], config: KappatuneConfig, seed: int) -> list[str]:
    """Return the names of the layers that train, given all names in ascending order of condition number."""
    by_shape: dict[Shape, list[str]] = {}
    for name in ordered:
        by_shape.setdefault(shape_of(name), []).append(name)
    pools = list(by_shape.values()) if config.normalize == "within_shape" else [list(ordered)]
    lowest = {name for pool in pools for name in pool[: max(1, share_of(len(pool), config.share))]}
    if config.order == "lowest":
        return [name for name in ordered if name in lowest]
    draw = random.Random(seed)
    picked: set[str] = set()
    for pool in by_shape.values():
        count = sum(name in lowest for name in pool)
        picked.update(pool[len(pool) - count :] if config.order == "highest" else draw.sample(pool, count))
    return [name for name in ordered if name in picked]


def choose(model: nn.Module, config: KappatuneConfig, probe: Probe, seed: int) -> None:
    """Freeze everything outside the chosen layers. Raises ValueError if there is no layer to choose from."""
    owner, inner = owners(model), plain(model)
    inside = {module for layer in decoder_layers(model) for module in layer.modules()}
    modules = {name: module for name, module in inner.named_modules() if name in set(owner.values())}
    layers = {
        name: base
        for name, module in modules.items()
        if module in inside and isinstance(base := base_layer(module), nn.Linear)
    }
    ordered = ascending(layers, config.largest) if layers else []
    if not ordered:
        raise ValueError(
            f"selector 'kappatune' chooses among linear layers of the decoder that train, directly or by an adapter, and whose "
            f"sides are at most kappatune.largest, {config.largest}. There is none."
        )
    chosen = set(pick(ordered, lambda name: (layers[name].out_features, layers[name].in_features), config, seed))
    biases = {layer.bias for layer in layers.values()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(owner.get(name) in chosen and parameter not in biases)


METHOD = Selector(choose=choose)
