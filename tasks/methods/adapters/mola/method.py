"""Functions of MoLA. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.activations import is_recomputing
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.mola.config import MolaConfig


def allotted(layer: int, num_layers: int, experts: Sequence[int]) -> int:
    """Return the number of experts in the linear layers of decoder layer `layer`."""
    return experts[len(experts) * layer // num_layers]


class MolaLinear(nn.Module):
    """A frozen linear layer plus E low-rank experts, of which a router picks `top_k` for each token."""

    def __init__(self, base: nn.Linear, num_experts: int, config: MolaConfig) -> None:
        super().__init__()
        self.base, self.top_k, self.scale = base, config.top_k, config.alpha / config.rank
        self.dropout = nn.Dropout(config.dropout)
        weight = base.weight
        like = weight.new_empty(0, dtype=weight.dtype if weight.is_floating_point() else torch.float32)
        self.A_ERI = nn.Parameter(like.new_empty(num_experts, config.rank, base.in_features))
        self.B_OER = nn.Parameter(like.new_zeros(base.out_features, num_experts, config.rank))
        self.router_EI = nn.Parameter(like.new_empty(num_experts, base.in_features))
        for matrix in (*self.A_ERI, self.router_EI):
            nn.init.kaiming_uniform_(matrix, a=5**0.5)  # as the authors' code does; the text says Gaussian
        self.load: tuple[Tensor, Tensor] | None = None
        """f and P of the last forward pass, (E,) each, until `penalty` takes them."""

    def route(self, x_TI: Tensor) -> Tensor:
        """Return the weight of each expert for each token, (T, E): they sum to 1, and all but `top_k` are 0."""
        p_TE = F.softmax(F.linear(x_TI, self.router_EI), dim=-1, dtype=torch.float32)
        best_TK = p_TE.detach().topk(self.top_k, dim=-1).indices
        picked_TE = (best_TK[..., None] == torch.arange(len(self.router_EI), device=x_TI.device)).any(dim=-2)
        if not is_recomputing():  # `penalty` has taken the loads by then; new ones would keep the graph
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


def attach(model: nn.Module, config: MolaConfig, start: Start) -> nn.Module:
    """Freeze `model` and put experts and a router beside each target.

    Raises ValueError if the targets match nothing, or match a layer smaller than an expert.
    """
    surgery.check_rank(model, config.targets, config.rank)
    linears = surgery.linears(model, config.targets, numbers=False)
    num_layers = len(surgery.decoder_layers(model))
    model.requires_grad_(False)
    for name, base in linears.items():
        num_experts = allotted(surgery.layer_number(name), num_layers, config.experts)
        surgery.replace(model, name, MolaLinear(base, num_experts, config))
    return model


def penalty(model: nn.Module, config: MolaConfig) -> Tensor:
    """Return `balance` times the sum of the decoder layers' load balance in the last forward pass. Clears what layers recorded."""
    total = torch.zeros((), device=next(model.parameters()).device)
    for layers in by_decoder_layer(model).values():
        loads = [layer.load for layer in layers.values()]
        f_E, P_E = (torch.stack(parts).mean(dim=0) for parts in zip(*loads, strict=True))
        total = total + len(f_E) * (f_E * P_E).sum()
        for layer in layers.values():
            layer.load = None  # else it would keep the graph in memory
    return config.balance * total


def redundancy(model: nn.Module, modules: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj")) -> dict[int, float]:
    """Return the distance between the experts of each decoder layer (def. 6.1): it is small if they have learned the same.

    It is the mean over `modules` and over pairs of experts of the Frobenius norm |D_i - D_k|, with D = (alpha / rank) B A. The paper does
    not say which matrix is meant; the product is our reading. Layers of one expert have no pair and are left out.
    """
    curve: dict[int, float] = {}
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
            curve[number] = float(torch.stack(distances).mean())
    return curve


def by_decoder_layer(model: nn.Module) -> dict[int, dict[str, Any]]:
    """Return the adapted layers by their full names, grouped by the number of their decoder layer."""
    adapted = [(name, module) for name, module in model.named_modules() if isinstance(module, MolaLinear)]
    return {number: dict(group) for number, group in groupby(adapted, key=lambda pair: surgery.layer_number(pair[0]))}


def facts(model: nn.Module) -> dict[str, Any]:
    """Return `redundancy` for each decoder layer, on which the final version of the paper bases its conclusion."""
    return {"redundancy": {str(number): round(apart, 6) for number, apart in redundancy(model).items()}}


METHOD = Adapter(attach=attach, penalty=penalty, facts=facts)
