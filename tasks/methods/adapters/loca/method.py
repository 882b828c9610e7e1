"""Functions of LoCA. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters._changed import ChangedLinear
from tasks.methods.adapters.loca.config import LocaConfig

LAST = 0.999
"""The largest place, as a fraction of the way to the last row or column."""
PLACES = ("row_K", "column_K")
"""The tensors that hold the places of coefficients."""


def cosines(size: int) -> Tensor:
    """Return √(2/N) cos(k π / 2N) for k from 0 to 4N - 1, after which they repeat, in float64. N is `size`."""
    return math.sqrt(2 / size) * torch.cos(torch.arange(4 * size, dtype=torch.float64) * (math.pi / (2 * size)))


def waves(index_K: Tensor, table: Tensor) -> Tensor:
    """Return rows of the orthonormal cosine transform of size N, (K, N), from the 4N cosines of N."""
    size = len(table) // 4
    whole = (
        torch.int32 if 2 * size * size < 2**31 else torch.int64
    )  # on a CPU narrow integers are looked up four times as fast
    phase_N = 2 * torch.arange(size, dtype=whole, device=table.device) + 1
    place_KN = torch.outer(index_K.to(whole), phase_N).remainder_(len(table))
    rows_KN = table.index_select(0, place_KN.view(-1)).view(place_KN.shape)
    rows_KN[index_K == 0] *= math.sqrt(0.5)
    return rows_KN


def waves_at(place_K: Tensor, table: Tensor) -> Tensor:
    """Return the rows of the cosine transform at places from 0 to N - 1, rounded, (K, N).

    The gradient of a place is half the difference in loss between its two neighbouring rows, clipped to ±1.
    """
    rows_KN: Tensor = _Waves.apply(place_K, table)  # type: ignore[no-untyped-call]
    return rows_KN


class _Waves(torch.autograd.Function):
    """The autograd function of `waves_at`."""

    @staticmethod
    def forward(ctx: Any, place_K: Tensor, table: Tensor) -> Tensor:
        index_K = place_K.round().long()
        ctx.save_for_backward(index_K, table)
        return waves(index_K, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        index_K, table = ctx.saved_tensors
        (gradient_KN,) = gradients
        above_KN = waves((index_K + 1).clamp(max=len(table) // 4 - 1), table)
        below_KN = waves((index_K - 1).clamp(min=0), table)
        return ((above_KN - below_KN) * gradient_KN).sum(dim=1).div(2).clamp(-1, 1), None


class LocaLinear(ChangedLinear):
    """A frozen linear layer plus alpha C_O^T S C_I."""

    row_K: Tensor
    column_K: Tensor
    cosines_out: Tensor
    cosines_in: Tensor

    def __init__(self, base: nn.Linear, config: LocaConfig, row_K: Tensor, column_K: Tensor) -> None:
        """Start from the initial places `row_K` and `column_K`, in [0, 1]."""
        super().__init__()
        self.base, self.scale = base, config.alpha
        self.dropout = nn.Dropout(config.dropout)
        like = surgery.like(base.weight)
        self.register_buffer("cosines_out", cosines(base.out_features).to(like), persistent=False)
        self.register_buffer("cosines_in", cosines(base.in_features).to(like), persistent=False)
        self.a_K = nn.Parameter(like.new_zeros(config.n))
        for name, place_K in zip(PLACES, (row_K, column_K), strict=True):
            place_K = place_K.to(like, copy=True)
            if config.places == "learned":
                self.register_parameter(name, nn.Parameter(place_K))
            else:
                self.register_buffer(name, place_K)
        self.first = self.indices()

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the places before rounding: rows in [0, O - 1] and columns in [0, I - 1], (K,) each."""
        row_K, column_K = (place.clamp(0, LAST) for place in (self.row_K, self.column_K))
        return row_K * (self.base.out_features - 1), column_K * (self.base.in_features - 1)

    @torch.no_grad()
    def indices(self) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of the coefficients in the spectrum, (K,) each."""
        row_K, column_K = (place.round().long() for place in self.places())
        return row_K, column_K

    def update(self) -> Tensor:
        """Return alpha C_O^T S C_I, (O, I), without dropout."""
        row_KO, column_KI = self.factors()
        return (row_KO.T * (self.scale * self.a_K)) @ column_KI

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return the cosines of each coefficient along the rows, (K, O), and along the columns, (K, I)."""
        row_K, column_K = self.places()
        return waves_at(row_K, self.cosines_out), waves_at(column_K, self.cosines_in)

    def forward(self, x: Tensor) -> Tensor:
        row_KO, column_KI = self.factors()
        spectrum_TK = F.linear(self.dropout(x.to(self.a_K.dtype)), column_KI)
        change = F.linear(spectrum_TK * (self.scale * self.a_K), row_KO.T)
        out: Tensor = self.base(x)
        return out + change.to(out.dtype)

    @torch.no_grad()
    def change(self) -> LowRank:
        """Return the update as one product. Coefficients of the same row of the spectrum share a row of A, or those of the same column a
        column of B."""
        row_K, column_K = self.indices()
        (rows, of_row_K), (columns, of_column_K) = (
            torch.unique(index, return_inverse=True) for index in (row_K, column_K)
        )
        a_K1 = (self.scale * self.a_K.detach())[:, None]
        if len(rows) <= len(columns):
            a_RI = self.a_K.new_zeros(len(rows), self.base.in_features)
            a_RI.index_add_(0, of_row_K, a_K1 * waves(column_K, self.cosines_in))
            return LowRank(a_RI, waves(rows, self.cosines_out).T)
        b_RO = self.a_K.new_zeros(len(columns), self.base.out_features)
        b_RO.index_add_(0, of_column_K, a_K1 * waves(row_K, self.cosines_out))
        return LowRank(waves(columns, self.cosines_in), b_RO.T)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        change = self.change()
        weight = self.base.weight
        weight.copy_(weight.double() + change.B_OR.double() @ change.A_RI.double())
        return self.base

    def moved(self) -> float:
        """Return the share of coefficients that are no longer at their initial places."""
        (row_K, column_K), (first_row_K, first_column_K) = self.indices(), self.first
        return float(((row_K != first_row_K) | (column_K != first_column_K)).double().mean())


def attach(model: nn.Module, config: LocaConfig, start: Start) -> nn.Module:
    """Freeze `model` and put coefficients beside each target, at places drawn from the seed or taken from a saved adapter.

    Raises ValueError if the targets match nothing, or if a layer has fewer numbers than n.
    """
    layers = surgery.adaptable(model, config.targets, numbers=False)
    sizes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
    name, (out, into) = min(sizes.items(), key=lambda item: math.prod(item[1]))
    if config.n > out * into:
        raise ValueError(
            f"n {config.n} is above the number of weights of {name}, {out} × {into}: take at most {out * into}."
        )
    model.requires_grad_(False)
    draw = torch.Generator().manual_seed(start.seed)
    for name, base in layers.items():
        drawn = torch.rand(2, config.n, generator=draw)
        row_K, column_K = (
            start.tensors.get(f"{name}.{place}", first) for place, first in zip(PLACES, drawn, strict=True)
        )
        surgery.replace(model, name, LocaLinear(base, config, row_K, column_K))
    return model


def places_learn(step: int, steps: int, config: LocaConfig) -> bool:
    """Return True if places train in this step, False if coefficients do."""
    period = config.coefficient_steps + config.place_steps
    return step < max(config.place_share * steps, period) and step % period >= config.coefficient_steps


def on_step(moment: Moment, config: LocaConfig) -> None:
    """Let coefficients or places train in this step. Raises ValueError if the training is too short for places to learn."""
    if config.places == "frozen":
        return
    if moment.steps <= config.coefficient_steps:
        raise ValueError(
            f"loca: the training has {moment.steps} steps, and places learn after the first {config.coefficient_steps}. "
            "Lower methods.loca.coefficient_steps, or set methods.loca.places: frozen."
        )
    places = places_learn(moment.step, moment.steps, config)
    chosen = {parameter for group in moment.optimizer.param_groups for parameter in group["params"]}
    for layer in adapted(moment.model).values():
        for name in ("a_K", *PLACES):
            if (parameter := getattr(layer, name)) in chosen:
                parameter.requires_grad_((name in PLACES) == places)
                parameter.grad = None


def turns(config: LocaConfig) -> int:
    """Return the steps of one turn of the coefficients and one of the places."""
    return config.coefficient_steps + config.place_steps if config.places == "learned" else 1


def rates(model: nn.Module, config: LocaConfig) -> dict[str, float]:
    """Return the rate of the places, by parameter."""
    names = [f"{name}.{place}" for name in adapted(model) for place in PLACES]
    return dict.fromkeys(names, config.place_rate) if config.places == "learned" else {}


def adapted(model: nn.Module) -> dict[str, LocaLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, LocaLinear)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every update in its weight."""
    return surgery.merge_layers(model, LocaLinear)


def finish(model: nn.Module) -> dict[str, LowRank]:
    """Return the change of each adapted weight. All are padded with zeros to the highest rank."""
    changes = {name: layer.change() for name, layer in adapted(model).items()}
    rank = max(len(change.A_RI) for change in changes.values())
    return {
        name: LowRank(F.pad(a_RI, (0, 0, 0, rank - len(a_RI))), F.pad(b_OR, (0, rank - len(a_RI))))
        for name, (a_RI, b_OR) in changes.items()
    }


def facts(model: nn.Module) -> dict[str, Any]:
    """Return the share of coefficients that have moved, by layer."""
    return {"moved": {name: round(layer.moved(), 4) for name, layer in adapted(model).items()}}


METHOD = Adapter(attach=attach, on_step=on_step, turns=turns, merge=merge, finish=finish, rates=rates, facts=facts)
