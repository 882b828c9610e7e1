"""ComPEFT: what fine-tuning changed as signs of its largest entries, times one number.

Yadav, Choshen, Raffel, Bansal 2023, https://arxiv.org/abs/2311.13171, algorithm 1. Nothing is trained. With tau all entries
of all tensors in one vector of length n, in the order of their names, and sigma its standard deviation:
  tau^ = alpha sigma sign(tau)  where |tau| is at least the (n - floor(k n))-th smallest magnitude,  0 elsewhere
k and alpha are what a grid finds best on validation data. tau is the difference to a reference: 0 for a LoRA, whose A and B
are taken as they are, 1 for (IA)^3, the base's weights for full fine-tuning.

The threshold is the authors' own: it keeps floor(k n) + 1 entries, and all that tie with the last. They have no encoder; ours
is the Golomb–Rice code whose size they state, lossless (`_rice`). `scope: tensor` is our design, not the paper's: with one
threshold for all, the random start of A can own nearly all that is kept, and B is lost. The baselines are the paper's, with
STC's scalar as STC defines it, the mean of magnitudes (Sattler et al. 2019, https://arxiv.org/abs/1903.02891).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tasks.core.params import Params
from tasks.methods.compressors import DeltaCompressor

if TYPE_CHECKING:
    from torch import Tensor

Density = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, Field(gt=0)]


class CompeftParams(Params):
    """The `methods.compeft` section."""

    densities: tuple[Density, ...] = Field((0.05, 0.1, 0.2, 0.3, 0.5), min_length=1)
    """Shares k of the entries to try keeping. One is taken as it is."""
    alphas: tuple[Alpha, ...] = Field((0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), min_length=1)
    """Multiples of sigma to try; `rule: compeft` alone has them."""
    rule: Literal["compeft", "stc", "prune"] = "compeft"
    """What a kept entry becomes: alpha sigma, the mean magnitude of what is kept (STC), or itself (prune only)."""
    scope: Literal["model", "tensor"] = "model"
    """What shares one threshold and one sigma: the whole vector, as in the paper, or each tensor."""


def candidates(params: CompeftParams) -> list[CompeftParams]:
    """Every point of the grid, small files first."""
    alphas = params.alphas if params.rule == "compeft" else params.alphas[:1]
    return [
        params.model_copy(update={"densities": (density,), "alphas": (alpha,)})
        for density in sorted(params.densities)
        for alpha in alphas
    ]


def quantise(delta: Mapping[str, Tensor], params: CompeftParams) -> dict[str, Tensor]:
    """tau^ under the one point that `params` name. Whole numbers stay as they are, outside of tau."""
    import torch

    names = sorted(name for name, tensor in delta.items() if tensor.is_floating_point())
    quantised = dict(delta)
    for group in [names] if params.scope == "model" else [[name] for name in names]:
        tau = torch.cat([delta[name].detach().flatten().float() for name in group])
        pieces = torch.split(_quantise(tau, params), [delta[name].numel() for name in group])
        quantised |= {n: p.reshape(delta[n].shape).to(delta[n].dtype) for n, p in zip(group, pieces, strict=True)}
    return quantised


def _quantise(tau: Tensor, params: CompeftParams) -> Tensor:
    """tau^ of one vector, (n,)."""
    import torch

    (density,) = params.densities
    size = tau.abs()
    keep = (size >= _threshold(size, density)) & (size > 0)
    match params.rule:
        case "prune":
            return tau * keep
        case "stc":
            scalar = size[keep].mean()
        case "compeft":
            # A lone entry has no spread: its magnitude stands for it.
            scalar = params.alphas[0] * (tau.std() if len(tau) > 1 else size[0])
    return torch.where(keep, scalar * tau.sign(), 0.0)


def _threshold(size: Tensor, density: float) -> float:
    """The (n - floor(k n))-th smallest magnitude; 0 where all are kept."""
    rank = len(size) - math.floor(density * len(size))
    return float(size.kthvalue(rank).values) if rank else 0.0


def encode(quantised: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the file."""
    from tasks.methods.compressors import _rice

    return _rice.encode(quantised)


def decode(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that were encoded, bit for bit."""
    from tasks.methods.compressors import _rice

    return _rice.decode(stored)


METHOD = DeltaCompressor(params=CompeftParams, candidates=candidates, quantise=quantise, encode=encode, decode=decode)
