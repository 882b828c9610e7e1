"""Functions of ComPEFT. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.methods.compressors import DeltaCompressor
from tasks.methods.compressors.compeft import rice
from tasks.methods.compressors.compeft.config import CompeftConfig


def candidates(config: CompeftConfig) -> list[CompeftConfig]:
    """Return every point of the grid, those of small files first."""
    alphas = config.alphas if config.rule == "compeft" else config.alphas[:1]
    return [
        config.model_copy(update={"densities": (density,), "alphas": (alpha,)})
        for density in sorted(config.densities)
        for alpha in alphas
    ]


def quantise(delta: Mapping[str, Tensor], config: CompeftConfig) -> dict[str, Tensor]:
    """Return tau^ for the single grid point of `config`. Integer tensors are not part of tau and do not change."""
    names = sorted(name for name, tensor in delta.items() if tensor.is_floating_point())
    quantised = dict(delta)
    for group in [names] if config.scope == "model" else [[name] for name in names]:
        tau = torch.cat([delta[name].detach().flatten().float() for name in group])
        pieces = torch.split(_quantise(tau, config), [delta[name].numel() for name in group])
        quantised |= {n: p.reshape(delta[n].shape).to(delta[n].dtype) for n, p in zip(group, pieces, strict=True)}
    return quantised


def _quantise(tau: Tensor, config: CompeftConfig) -> Tensor:
    """Return tau^ of one vector, (n,)."""
    (density,) = config.densities
    size = tau.abs()
    keep = (size >= _threshold(size, density)) & (size > 0)
    match config.rule:
        case "prune":
            return tau * keep
        case "stc":
            scalar = size[keep].mean()
        case "compeft":
            # A single entry has no standard deviation: its magnitude is used instead.
            scalar = config.alphas[0] * (tau.std() if len(tau) > 1 else size[0])
    return torch.where(keep, scalar * tau.sign(), 0.0)


def _threshold(size: Tensor, density: float) -> float:
    """Return the (n - floor(k n))-th smallest magnitude; 0 if all entries are kept."""
    rank = len(size) - math.floor(density * len(size))
    return float(size.kthvalue(rank).values) if rank else 0.0


def encode(quantised: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the file."""
    return rice.encode(quantised)


def decode(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that were encoded, bit for bit."""
    return rice.decode(stored)


METHOD = DeltaCompressor(candidates=candidates, quantise=quantise, encode=encode, decode=decode)
