"""Functions of CoFiTune. Equations and the legend of symbols are in the card, `__init__.py`."""

from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.config import share_of
from tasks.core.training import Probe
from tasks.core.weights import deltas
from tasks.core.weights.surgery import decoder_layers, layer_number
from tasks.methods.selectors import Selector
from tasks.methods.selectors._weights import trained_linears
from tasks.methods.selectors.cofitune.config import CofituneConfig
from tasks.methods.selectors.cofitune.importance import UNITS, importance, normalised, of_rows


def band(layers: int, config: CofituneConfig) -> range:
    """Return the numbers of the decoder layers that train."""
    low, high = config.band
    return range(share_of(layers, low), share_of(layers, high))


def choose(model: nn.Module, config: CofituneConfig, probe: Probe, seed: int) -> None:
    """Freeze all but the modules of the band, and let the rows of important units change less.

    Raises ValueError if those weights do not train, as under an adapter, if the band has no layer, or if the importance of its units cannot be
    measured.
    """
    layers = decoder_layers(model)
    numbers = band(len(layers), config)
    named = trained_linears(model, config.modules, "cofitune", "modules")
    chosen = {name: layer for name, layer in named.items() if layer_number(name) in numbers}
    if not chosen:
        raise ValueError(
            f"cofitune.band {config.band[0]:g} to {config.band[1]:g} of {len(layers)} layers holds none whose "
            f"{', '.join(config.modules)} train. Widen it."
        )
    masked = {name for name in chosen if name.rpartition(".")[2] in UNITS} if config.mask != "none" else set()
    s: dict[int, dict[str, Tensor]] = {}
    if masked:
        absolute = config.accumulate == "absolute"
        kinds = {UNITS[name.rpartition(".")[2]] for name in masked}
        measured = importance(model, numbers, probe, config.dropout, seed, kinds=kinds, absolute=absolute)
        s = {number: {kind: normalised(units) for kind, units in kinds.items()} for number, kinds in measured.items()}
    model.requires_grad_(False)
    for name, layer in chosen.items():
        if name in masked:
            attention: Any = layers[layer_number(name)].self_attn
            s_O = of_rows(s[layer_number(name)], name, layer.out_features, attention.head_dim)
            _slow(model, name, 1 - s_O, config)
        else:
            layer.weight.requires_grad_(True)


def _slow(model: nn.Module, name: str, share_O: Tensor, config: CofituneConfig) -> None:
    """Put a delta of all rows on a layer; the step of each row is multiplied by its share."""
    rows = torch.arange(len(share_O))
    if config.mask == "rows":
        deltas.put(model, name, "rows", rows, share_O)
        return
    layer = deltas.put(model, name, "rows", rows)
    layer.register_buffer("mask", tiled(share_O, layer.delta))
    layer.delta.register_hook(lambda grad_OI: grad_OI * layer.mask)  # type: ignore[no-untyped-call]


def tiled(share_U: Tensor, weight_OI: Tensor) -> Tensor:
    """Return the mask of the authors' code, (O, I): the vector, repeated along the flattened weight."""
    repeats = -(-weight_OI.numel() // len(share_U))
    return share_U.repeat(repeats)[: weight_OI.numel()].view_as(weight_OI).to(weight_OI.device)


METHOD = Selector(choose=choose)
