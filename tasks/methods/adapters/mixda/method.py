"""Functions of MixDA. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.records import GENERAL
from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.activations import is_recomputing
from tasks.core.weights.row import Passage, listen, task_key
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.mixda.config import SPEC, MixdaConfig


class KnowledgeLinear(nn.Module):
    """The last layer of an MLP, frozen, with the adapters of N domains beside it, which train or are frozen."""

    def __init__(self, base: nn.Linear, config: MixdaConfig, domains: int, *, trains: bool) -> None:
        super().__init__()
        self.base = base
        self.down_NRI: Tensor
        self.down_NR: Tensor
        self.up_NHR: Tensor
        self.up_NH: Tensor
        like, rank = surgery.like(base.weight), max(1, base.in_features // config.reduction)
        down_MI = nn.init.kaiming_uniform_(like.new_empty(domains * rank, base.in_features), a=5**0.5)
        fresh = {
            "down_NRI": down_MI.view(domains, rank, base.in_features),
            "down_NR": like.new_zeros(domains, rank),
            "up_NHR": like.new_zeros(domains, base.out_features, rank),
            "up_NH": like.new_zeros(domains, base.out_features),
        }
        for name, tensor in fresh.items():
            if trains:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def known(self, a: Tensor, weights: Tensor) -> Tensor:
        """Return the sum over domains of each adapter's output K times its weight, (…, H)."""
        inner = F.gelu(F.linear(a, self.down_NRI.flatten(0, 1), self.down_NR.flatten()))
        inner = inner.view(*inner.shape[:-1], *self.down_NR.shape) * weights[..., None]
        return F.linear(inner.flatten(-2), self.up_NHR.transpose(0, 1).flatten(1)) + weights @ self.up_NH.to(weights)


class DomainLinear(KnowledgeLinear):
    """The first part: the adapter of one domain, which trains."""

    def __init__(self, base: nn.Linear, config: MixdaConfig, passage: Passage) -> None:
        super().__init__(base, config, 1, trains=True)
        self.passage = passage
        self.owed: Tensor | None = None
        """The sum of L_S over the general tokens of a row, divided by the number of all its tokens, until `penalty` takes it."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        a, own = x.to(self.down_NR.dtype), out.to(self.down_NR.dtype)
        known = self.known(a, a.new_ones(*a.shape[:-1], 1))
        row = self.passage.row
        if row is not None and row.training:
            general_BT = row.of_each_token(row.tasks == task_key(GENERAL), own.shape[1])
            owed = ((own.detach() - known).square().mean(dim=-1) * general_BT).mean()
            if not is_recomputing():  # recomputation gives the same tensors again
                self.owed = owed
        return ((own + known) / 2).to(out.dtype)


class MixtureLinear(KnowledgeLinear):
    """The second part: the frozen adapters of several domains, and a gate, which trains."""

    def __init__(self, base: nn.Linear, config: MixdaConfig, domains: int) -> None:
        super().__init__(base, config, domains, trains=False)
        self.squashes = config.gate == "sigmoid"
        width, made = config.gate_width, _made(base)
        last = nn.Linear(width, domains + 1, **made)
        self.gate = nn.Sequential(nn.Linear(base.in_features, width, **made), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():  # half for the MLP, and half for all domains
            if self.squashes:
                last.bias[:-1] = -math.log(2 * domains - 1)
            else:
                last.bias[-1] = math.log(domains)

    def shares(self, a: Tensor) -> Tensor:
        """Return, for each token, the weights of the domains and, in the last place, of the MLP, (…, N + 1), from the token's own a."""
        logits: Tensor = self.gate(a)
        return logits.sigmoid() if self.squashes else logits.softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        a, own = x.to(self.down_NR.dtype), out.to(self.down_NR.dtype)
        weights = self.shares(a)
        return (self.known(a, weights[..., :-1]) + weights[..., -1:] * own).to(out.dtype)


class TaskLinear(nn.Module):
    """The last layer of an MLP, or its mixture, followed by the task adapter, which trains."""

    def __init__(self, base: nn.Module, last: nn.Linear, config: MixdaConfig) -> None:
        super().__init__()
        self.base, made = base, _made(last)
        up = nn.Linear(config.task_rank, last.out_features, **made)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.dtype = up.weight.dtype
        self.task = nn.Sequential(nn.Linear(last.out_features, config.task_rank, **made), nn.GELU(), up)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + self.task(out.to(self.dtype)).to(out.dtype)


def _made(base: nn.Linear) -> dict[str, Any]:
    like = surgery.like(base.weight)
    return {"device": like.device, "dtype": like.dtype}


def chosen(layers: int, config: MixdaConfig) -> list[int]:
    """Return the numbers of the layers that have domains' adapters."""
    return sorted({min(layers - 1, round(place * layers)) for place in config.places})


def attach(model: nn.Module, config: MixdaConfig, start: Start) -> nn.Module:
    """Freeze `model` and put adapters beside the MLPs of the chosen layers.

    Without `start.domains` this is one new adapter for a domain; with them, the frozen adapters of these domains, a gate and a task adapter.
    Raises ValueError if a domain's adapter has other sizes than the config gives.
    """
    numbers = chosen(len(surgery.decoder_layers(model)), config)
    downs = surgery.linears(model, ("down_proj",), numbers=False)
    model.requires_grad_(False)
    if not (domains := _mixed(start)):
        passage = listen(model)
        for name, base in downs.items():
            if surgery.layer_number(name) in numbers:
                surgery.replace(model, name, DomainLinear(base, config, passage))
        return model
    for name, base in downs.items():
        inner: nn.Module = base
        if surgery.layer_number(name) in numbers:
            inner = mixture = MixtureLinear(base, config, domains)
            _hold(mixture, name, start.domains)
        surgery.replace(model, name, TaskLinear(inner, base, config))
    return model


def _mixed(start: Start) -> int:
    """Return the number of domains that are mixed: given ones, or those of a saved adapter; 0 if a domain's adapter trains."""
    if start.domains:
        return len(start.domains)
    sizes = [len(tensor) for name, tensor in start.tensors.items() if name.endswith(f".base.{SPEC.held[0]}")]
    return max(sizes, default=0)


def _hold(layer: MixtureLinear, name: str, domains: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Copy the adapters of the domains, if there are any, into a layer, in the order of their names."""
    for place, (domain, tensors) in enumerate(sorted(domains.items())):
        for key in SPEC.held:
            held: Tensor = getattr(layer, key)
            given = tensors.get(f"{name}.{key}")
            if given is None or given.shape[1:] != held.shape[1:]:
                there = "nothing" if given is None else f"a tensor of {_size(given.shape[1:])}"
                raise ValueError(
                    f"The adapter of domain {domain!r} has {there} at {name}.{key}, and methods.mixda asks for {_size(held.shape[1:])}. "
                    "Set its reduction and places as they were in `pretrain`, or train the bank again."
                )
            held[place].copy_(given[0])


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def penalty(model: nn.Module, config: MixdaConfig) -> Tensor:
    """Return `general` times the mean over layers of L_S in the last forward pass; 0 if domains are mixed. Clears what layers recorded."""
    layers = list(surgery.layers_of(model, DomainLinear).values())
    owed = [layer.owed for layer in layers if layer.owed is not None]
    for layer in layers:
        layer.owed = None  # else it would keep the graph in memory
    if not owed:
        return torch.zeros((), device=next(model.parameters()).device)
    return config.general * torch.stack(owed).mean()


def weigh(model: nn.Module, keys_N: Tensor, config: MixdaConfig) -> Tensor:
    """Return 0 for tokens of general text if a domain's adapter trains, else 1."""
    is_left_out = keys_N == task_key(GENERAL)
    return (~is_left_out).float() if surgery.layers_of(model, DomainLinear) else torch.ones_like(keys_N).float()


def facts(model: nn.Module) -> dict[str, Any]:
    """Return the layers that have domains' adapters, and the number of domains in each."""
    layers = surgery.layers_of(model, KnowledgeLinear)
    return {
        "layers": [surgery.layer_number(name) for name in layers],
        "domains": max(len(layer.down_NR) for layer in layers.values()),
    }


METHOD = Adapter(attach=attach, penalty=penalty, weigh=weigh, facts=facts)
