"""Functions of NeuroAda. Equations and the legend of symbols are in the card, `__init__.py`."""

import torch
from torch import Tensor, nn

from tasks.core.training import Probe
from tasks.core.weights import deltas
from tasks.methods.selectors import Selector
from tasks.methods.selectors._weights import trained_linears
from tasks.methods.selectors.neuroada.config import NeuroadaConfig


def pick(weight_OI: Tensor, config: NeuroadaConfig, draw: torch.Generator) -> Tensor:
    """Return the entries of the flattened weight that train, (N,), row by row."""
    rows, columns = weight_OI.shape
    if config.order == "random":
        score_OI = torch.rand(rows, columns, generator=draw).to(weight_OI.device)
    else:
        score_OI = weight_OI.detach().abs()
    column_OK = (
        score_OI.topk(min(config.k, columns), dim=1, largest=config.order != "smallest").indices.sort(dim=1).values
    )
    return (torch.arange(rows, device=weight_OI.device)[:, None] * columns + column_OK).flatten()


def choose(model: nn.Module, config: NeuroadaConfig, probe: Probe, seed: int) -> None:
    """Freeze `model` and let the chosen entries of each row train.

    Raises ValueError if those weights do not train, as under an adapter.
    """
    draw = torch.Generator().manual_seed(seed)
    layers = trained_linears(model, config.targets, "neuroada")
    chosen = {name: pick(layer.weight, config, draw) for name, layer in layers.items()}
    model.requires_grad_(False)
    for name, index in chosen.items():
        deltas.put(model, name, "entries", index)


METHOD = Selector(choose=choose)
