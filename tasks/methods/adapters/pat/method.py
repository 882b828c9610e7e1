"""Functions of PAT. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.pat import narrow
from tasks.methods.adapters.pat.config import PatConfig

STEADY = 0.8
"""Share of the steps before the milestone after which tau is constant and the model's loss no longer changes the mask."""
LARGEST_EXPONENT = 10.0
"""The largest exponent in the mask's sigmoid: no channel is below 4.5e-5 before it is dropped."""
FADING = 2.77
"""Exponent by which dropped channels fade if the kept ones are fixed: at the milestone a sixteenth remains."""


class Mask(nn.Module):
    """The mask M, which all operators of a model share."""

    kept_H: Tensor
    """The channels that are kept; none before they are chosen."""

    def __init__(self, config: PatConfig, kept_H: Tensor, width: int, like: Tensor) -> None:
        super().__init__()
        self.width = width
        self.w_H = nn.Parameter(like.new_zeros(len(kept_H))) if config.mask == "learned" else None
        self.register_buffer("kept_H", kept_H)
        self.settled = False
        """True once the other channels are dropped."""
        self.move_to(0, 1)

    def move_to(self, step: int, milestone: int) -> None:
        """Set the mask for this step. At the milestone the channels are chosen; a training resumed later reads them from its checkpoint."""
        if step == milestone and not self.settled and self.w_H is not None:
            self.kept_H.copy_(largest(self.w_H.detach(), self.width))
        self.settled = self.settled or step >= milestone
        steady = int(STEADY * milestone)
        self.is_steady = step >= steady
        progress = math.log(max(1, min(step, steady))) / math.log(milestone) if milestone > 1 else 0.0
        self.tau = 1 / (1 - progress + 1e-6)
        self.beta = max(0.5 - step / milestone, 0.0)
        self.fading = math.exp(-FADING * step / milestone)

    def forward(self) -> Tensor:
        """Return M, (H,)."""
        if self.w_H is None:
            return self.kept_H.float() if self.settled else torch.where(self.kept_H, 1.0, self.fading)
        if self.settled:
            return self.kept_H.to(self.w_H.dtype)
        w_H = self.w_H.detach() if self.is_steady else self.w_H
        return 1 / (1 + (-self.tau * w_H).clamp(max=LARGEST_EXPONENT).exp()) + self.beta

    def penalty(self, config: PatConfig) -> Tensor:
        """Return the losses of the count and of the separation; 0 if the mask is not learned."""
        if self.w_H is None:
            return torch.zeros((), device=self.kept_H.device)
        w_H = self.w_H
        at_least_0_H = (w_H >= 0).to(w_H) + (w_H - w_H.detach())  # with a gradient of 1
        count = (at_least_0_H.sum() - self.width).abs() / self.width
        sides = ((w_H > 0, 0.5), (w_H <= 0, -0.5))
        separation = [((w_H - goal).square() * side_H).sum() / side_H.sum().clamp(min=1) for side_H, goal in sides]
        return config.count_weight * count + config.separation_weight * (separation[0] + separation[1])


def largest(values_H: Tensor, count: int) -> Tensor:
    """Return a boolean mask, (H,), of the `count` largest values; among equal values the first come first."""
    chosen = values_H.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(values_H, dtype=torch.bool).index_fill_(0, chosen, True)


class Operator(nn.Module):
    """The operator v * M * (x + L1 L0 x); with a rank of 0, M * x."""

    def __init__(self, mask: Mask, rank: int, like: Tensor) -> None:
        super().__init__()
        self.mask, self.rank = mask, rank
        if rank:
            hidden = len(mask.kept_H)
            self.L0_SH = nn.Parameter(like.new_empty(rank, hidden))
            self.L1_HS = nn.Parameter(like.new_zeros(hidden, rank))
            self.v_H = nn.Parameter(like.new_ones(hidden))
            nn.init.kaiming_uniform_(self.L0_SH, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        m_H: Tensor = self.mask()
        if not self.rank:
            return x * m_H.to(x.dtype)
        y = x.to(self.v_H.dtype)
        y = y + F.linear(F.linear(y, self.L0_SH), self.L1_HS)
        return (self.v_H * m_H * y).to(x.dtype)

    def fold(self, writes_HX: Tensor) -> Tensor:
        """Return the weight that writes to the kept channels, with the operator merged into it, (K, X), in float64."""
        writes_HX = writes_HX.double()
        if self.rank:
            writes_HX = writes_HX + self.L1_HS.double() @ (self.L0_SH.double() @ writes_HX)
            writes_HX = self.v_H.double()[:, None] * writes_HX
        return writes_HX[self.mask.kept_H]

    def identity_loss(self) -> Tensor:
        """Return the mean square of L0 L0^T - I."""
        product_SS = self.L0_SH @ self.L0_SH.T
        return F.mse_loss(product_SS, torch.eye(self.rank).to(product_SS))


class PatEmbedding(nn.Module):
    """A frozen embedding followed by an operator."""

    def __init__(self, base: nn.Embedding, operator: Operator) -> None:
        super().__init__()
        self.base, self.operator = base, operator

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.operator(self.base(ids))
        return out

    @torch.no_grad()
    def merge(self) -> nn.Embedding:
        """Return the plain embedding of the kept channels."""
        weight_VK = self.operator.fold(self.base.weight.T).T.to(self.base.weight.dtype).contiguous()
        tokens, width = weight_VK.shape
        return nn.Embedding(tokens, width, padding_idx=self.base.padding_idx, _weight=weight_VK)


class PatLinear(nn.Module):
    """A frozen linear layer plus s B A; if it writes to the residual stream, an operator follows."""

    def __init__(self, base: nn.Linear, config: PatConfig, mask: Mask, operator: Operator | None, like: Tensor) -> None:
        super().__init__()
        self.base, self.scale = base, config.alpha / config.rank
        self.dropout = nn.Dropout(config.dropout)
        self.A_RI = nn.Parameter(like.new_empty(config.rank, base.in_features))
        self.B_OR = nn.Parameter(like.new_zeros(base.out_features, config.rank))
        nn.init.kaiming_uniform_(self.A_RI, a=5**0.5)
        self.mask, self.operator = mask, operator

    def forward(self, x: Tensor) -> Tensor:
        change = F.linear(F.linear(self.dropout(x.to(self.A_RI.dtype)), self.A_RI), self.B_OR)
        out: Tensor = self.base(x)
        out = out + (self.scale * change).to(out.dtype)
        return self.operator(out) if self.operator else out

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that writes to, or reads from, the kept channels."""
        weight_OI = self.base.weight.double() + self.scale * (self.B_OR.double() @ self.A_RI.double())
        bias_O: Tensor | None = self.base.bias
        if self.operator is None:
            return narrow.linear(weight_OI[:, self.mask.kept_H], bias_O, self.base.weight)
        bias_O = None if bias_O is None else self.operator.fold(bias_O[:, None])[:, 0]
        return narrow.linear(self.operator.fold(weight_OI), bias_O, self.base.weight)


def attach(model: nn.Module, config: PatConfig, start: Start) -> nn.Module:
    """Freeze `model`, put an operator after each module that writes to its residual stream, and a LoRA beside each linear layer.

    Raises ValueError for a model or a width as `narrow.kept_width` does, and for a rank above a layer or the hidden size.
    """
    inner: Any = surgery.plain(model)
    width, hidden = narrow.kept_width(inner.config, config.width), inner.config.hidden_size
    rank = max(1, hidden // 20) if config.operator_rank is None else config.operator_rank
    if rank > hidden:
        raise ValueError(f"methods.pat.operator_rank {rank} is above the model's {hidden} hidden channels.")
    surgery.check_rank(inner, surgery.ALL_LINEAR, config.rank)
    layers = surgery.linears(inner, surgery.ALL_LINEAR, numbers=False)
    embedding = inner.get_input_embeddings()
    like = surgery.like(embedding.weight)
    inner.requires_grad_(False)
    mask = Mask(config, _first_kept(inner, config, width), width, like)
    mask.settled = config.mask == "before" or bool(start.tensors)
    inner.set_input_embeddings(PatEmbedding(embedding, Operator(mask, rank, like)))
    for name, base in layers.items():
        operator = Operator(mask, rank, like) if name.rpartition(".")[2] in narrow.WRITERS else None
        surgery.replace(inner, name, PatLinear(base, config, mask, operator, like))
    return model


def _first_kept(model: Any, config: PatConfig, width: int) -> Tensor:
    """Return a boolean mask, (H,), of the channels that are kept from the start; all False if they are learned."""
    device, hidden = model.get_input_embeddings().weight.device, model.config.hidden_size
    if config.mask == "before":
        return largest(narrow.written_energy(model), width)
    return torch.arange(hidden, device=device) < (width if config.mask == "fixed" else 0)


def mask_of(model: nn.Module) -> Mask:
    """Return the one mask of an adapted model."""
    (mask,) = surgery.layers_of(model, Mask).values()
    return mask


def operators(model: nn.Module) -> Iterator[Operator]:
    """Yield the operators of an adapted model, the embedding's first."""
    yield from surgery.layers_of(model, Operator).values()


def on_step(moment: Moment, config: PatConfig) -> None:
    """Set the mask for this step. Raises ValueError if the training is too short to drop channels and continue."""
    milestone = max(1, int(config.milestone * moment.steps))
    if milestone >= moment.steps:
        raise ValueError(
            "pat: the training has 1 step, and channels are dropped after the first. Raise its tokens, or lower pack_tokens or accumulation."
        )
    mask_of(moment.model).move_to(moment.step, milestone)


def penalty(model: nn.Module, config: PatConfig) -> Tensor:
    """Return the losses of the mask and of the operators, weighted."""
    total = mask_of(model).penalty(config)
    for operator in operators(model):
        if operator.rank:
            total = total + config.identity_weight * operator.identity_loss()
    return total


def rates(model: nn.Module, config: PatConfig) -> dict[str, float]:
    """Return the rate of the mask, by parameter."""
    of_mask = mask_of(model).w_H
    return {name: config.mask_rate for name, parameter in model.named_parameters() if parameter is of_mask}


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model of the kept channels. Raises ValueError before they are chosen."""
    inner: Any = surgery.plain(model)
    mask = mask_of(inner)
    if not mask.settled:
        raise ValueError(
            "pat: no channel was dropped yet, so there is no narrower model. Train to the milestone first."
        )
    surgery.merge_layers(inner, PatEmbedding)
    surgery.merge_layers(inner, PatLinear)
    return narrow.rebuilt(inner, mask.kept_H)


def facts(model: nn.Module) -> dict[str, Any]:
    """Return the width, and for a learned mask the number of channels above 0, which the authors' code would keep."""
    mask = mask_of(model)
    above = {} if mask.w_H is None else {"above_zero": int((mask.w_H > 0).sum())}
    return {"width": mask.width, **above}


METHOD = Adapter(attach=attach, on_step=on_step, merge=merge, penalty=penalty, rates=rates, facts=facts)
