"""MoLA: in every layer a router sends each token to a few of many LoRA experts; how many there are depends on depth.

Gao et al. 2024, https://arxiv.org/abs/2402.08562 (final version: Findings of NAACL 2025), eq. 3 and 4:

    p = softmax(W_r x),  s_k = p_k / (sum of p over K),  h = W x + sum over k in K of s_k (alpha / r) B_k A_k x

K are the `top_k` experts of the largest p. The decoder's layers are cut into four groups of equal length, bottom up, and a
group's layers have as many experts as `experts` says. A, B and W_r of every linear layer are trained; B = 0 at the start.
The load balance of a decoder layer with E experts is E sum_e f_e P_e, where f_e is the share of picks that went to expert e and
P_e the mean of p_e, over all tokens and linear layers: 1 when all are used alike, up to E when one is.
Shapes: T = tokens, E = experts, K = picks of a token, R = rank, O = out, I = in features.

The first version's title says that higher layers need more experts. The final one finds the middle layers to be those, and no
shape that wins on every base model: they lie within two points. How far the experts of each layer are apart after training, by
which it argues, is written into `training.json`.

Our design, not the paper's:
- The experts of a layer stand in two matrices, and those not picked are multiplied by 0. With a few dozen rows in all this is
  two to four times faster than sorting tokens by expert, and it copies no activations.
- Dropout is drawn once for a token, not once for each of its picks.
- The balance loss is on. The paper trains with it; its code leaves it off unless told.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from tasks.core import surgery
from tasks.core.params import Params
from tasks.methods.adapters import Adapter

if TYPE_CHECKING:
    from torch import Tensor, nn


class MolaParams(Params):
    """The `methods.mola` section."""

    rank: int = Field(8, ge=1)
    """Inner width of each expert."""
    alpha: float = Field(16.0, gt=0)
    """An expert's output is scaled by alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before A. The router sees its input whole."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""
    experts: tuple[int, int, int, int] = (2, 8, 8, 2)
    """Experts in the layers of each quarter of the decoder, bottom up. The paper's shapes of equal size are 8642 (triangle),
    2468 (inverted), 8228 (hourglass), 2882 (diamond) and 5555 (rectangle)."""
    top_k: int = Field(2, ge=1)
    """Experts that a token is sent to. With 1 the weight of a pick is always 1, so only the balance loss trains the router."""
    balance: float = Field(0.001, ge=0)
    """The sum of the layers' load balance is added to the loss times this; 0 switches it off."""

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if min(self.experts) < self.top_k:
            raise ValueError(f"experts={self.experts} leaves layers with fewer experts than top_k={self.top_k}.")
        return self


def allotted(layer: int, num_layers: int, experts: Sequence[int]) -> int:
    """How many experts the linear layers of decoder layer `layer` have."""
    return experts[len(experts) * layer // num_layers]


@cache
def layer_type() -> Any:
    """The class of an adapted layer, made when torch is there."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class MolaLinear(nn.Module):
        """A frozen linear layer plus E low-rank experts, of which a router picks `top_k` for each token."""

        def __init__(self, base: nn.Linear, num_experts: int, params: MolaParams) -> None:
            super().__init__()
            self.base, self.top_k, self.scale = base, params.top_k, params.alpha / params.rank
            self.dropout = nn.Dropout(params.dropout)
            weight = base.weight
            like = weight.new_empty(0, dtype=weight.dtype if weight.is_floating_point() else torch.float32)
            self.A_ERI = nn.Parameter(like.new_empty(num_experts, params.rank, base.in_features))
            self.B_OER = nn.Parameter(like.new_zeros(base.out_features, num_experts, params.rank))
            self.router_EI = nn.Parameter(like.new_empty(num_experts, base.in_features))
            for matrix in (*self.A_ERI, self.router_EI):
                nn.init.kaiming_uniform_(matrix, a=5**0.5)  # as the authors' code does; the text says Gaussian
            self.load: tuple[Tensor, Tensor] | None = None
            """f and P of the last forward, (E,) each, until `penalty` takes them."""

        def route(self, x_TI: Tensor) -> Tensor:
            """The weight of each expert for each token, (T, E): they sum to 1, and all but `top_k` are 0."""
            p_TE = F.softmax(F.linear(x_TI, self.router_EI), dim=-1, dtype=torch.float32)
            best_TK = p_TE.detach().topk(self.top_k, dim=-1).indices
            picked_TE = (best_TK[..., None] == torch.arange(len(self.router_EI), device=x_TI.device)).any(dim=-2)
            self.load = picked_TE.float().mean(dim=0) / self.top_k, p_TE.mean(dim=0)
            kept_TE = p_TE * picked_TE
            return kept_TE / kept_TE.sum(dim=-1, keepdim=True)

        def forward(self, x: Tensor) -> Tensor:
            x_TI = x.flatten(0, -2).to(self.A_ERI.dtype)  # over a quantised layer x may have fewer bits
            weights_TE1 = self.scale * self.route(x_TI)[..., None].to(x.dtype)
            inner_TER = F.linear(self.dropout(x_TI), self.A_ERI.flatten(0, 1)).view(-1, *self.A_ERI.shape[:2])
            update_TO = F.linear((inner_TER * weights_TE1).flatten(1), self.B_OER.flatten(1))
            out = self.base(x)
            return out + update_TO.view_as(out).to(out.dtype)

    return MolaLinear


def attach(model: nn.Module, params: MolaParams) -> nn.Module:
    """Freeze `model` and put experts and a router beside each target.

    Raises ValueError where the targets match nothing, or a layer smaller than an expert.
    """
    surgery.check_rank(model, params.targets, params.rank)
    linears = surgery.linears(model, params.targets, numbers=False)
    num_layers = len(surgery.decoder_layers(model))
    model.requires_grad_(False)
    for name, base in linears.items():
        num_experts = allotted(surgery.layer_number(name), num_layers, params.experts)
        surgery.replace(model, name, layer_type()(base, num_experts, params))
    return model


def penalty(model: nn.Module, params: MolaParams) -> Tensor:
    """`balance` times the decoder layers' load balance in the last forward, added up. Takes what the layers noted."""
    import torch

    total = torch.zeros((), device=next(model.parameters()).device)
    for layers in by_decoder_layer(model).values():
        loads = [layer.load for layer in layers.values()]
        f_E, P_E = (torch.stack(parts).mean(dim=0) for parts in zip(*loads, strict=True))
        total = total + len(f_E) * (f_E * P_E).sum()
        for layer in layers.values():
            layer.load = None  # or the graph would live on with it
    return params.balance * total


def redundancy(model: nn.Module, modules: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj")) -> dict[int, float]:
    """How far the experts of each decoder layer are apart (def. 6.1): small where they have learnt the same.

    The mean over `modules` and over pairs of experts of |D_i - D_k|, the Frobenius norm, D = (alpha / rank) B A: the paper does
    not say of which matrix, the product is our reading. Layers of one expert have no pair and are left out.
    """
    import torch

    found: dict[int, float] = {}
    for number, layers in by_decoder_layer(model).items():
        distances: list[Tensor] = []
        for name, layer in layers.items():
            num_experts = len(layer.router_EI)
            if name.rpartition(".")[2] not in modules or num_experts == 1:
                continue
            A_ERI, B_OER = layer.A_ERI.detach().double(), layer.B_OER.detach().double()
            b_EERR = torch.einsum("oir,oks->ikrs", B_OER, B_OER)  # B_i^T B_k
            a_EERR = torch.einsum("irx,ksx->ikrs", A_ERI, A_ERI)  # A_i A_k^T
            inner_EE = layer.scale**2 * (b_EERR * a_EERR).sum(dim=(-2, -1))  # <D_i, D_k>, and no D is formed
            square_E = inner_EE.diagonal()
            apart_EE = (square_E[:, None] + square_E - 2 * inner_EE).clamp(min=0).sqrt()
            rows, columns = torch.triu_indices(num_experts, num_experts, offset=1)
            distances.append(apart_EE[rows, columns].mean())
        if distances:
            found[number] = float(torch.stack(distances).mean())
    return found


def by_decoder_layer(model: nn.Module) -> dict[int, dict[str, Any]]:
    """The adapted layers by their full names, by the number of the decoder layer that they lie in."""
    kind = layer_type()
    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
    return {number: dict(group) for number, group in groupby(adapted, key=lambda pair: surgery.layer_number(pair[0]))}


def facts(model: nn.Module) -> dict[str, Any]:
    """The curve of `redundancy` over the decoder layers, from which the paper's final version concludes."""
    return {"redundancy": {str(number): round(apart, 6) for number, apart in redundancy(model).items()}}


METHOD = Adapter(params=MolaParams, attach=attach, merge=None, penalty=penalty, facts=facts)
