"""Functions of CorDA. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Probe, Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters._changed import ChangedLinear
from tasks.methods.adapters.corda.config import CordaConfig

DAMPING = 0.01
"""The damping, as a fraction of the mean of C's diagonal."""


class Components(NamedTuple):
    """The chosen part of a weight, s B A, in float64."""

    factors: LowRank
    damped: float
    """The share of C's directions that the damping outweighs."""


@torch.no_grad()
def covariances(model: nn.Module, layers: Mapping[str, nn.Module], probe: Probe) -> dict[str, Tensor]:
    """Return C of the inputs of each layer, (I, I) in fp32, by the names in `layers`.

    A packed row has no padding, and its sequences are taken one by one.
    """
    sums: dict[str, Tensor] = {}
    edges: Sequence[int] = ()

    def add(name: str, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        row_TI = inputs[0].flatten(0, -2).float()
        for start, end in pairwise(edges):
            x_TI = row_TI[start:end] / row_TI[start:end].max().abs()
            c_II = x_TI.T @ x_TI
            sums[name] = sums[name].add_(c_II) if name in sums else c_II

    handles = [layer.register_forward_pre_hook(partial(add, name)) for name, layer in layers.items()]
    with surgery.evaluating(model):
        for batch in probe.batches:
            edges = batch["boundaries"].tolist()
            probe.losses(model, batch)
    for handle in handles:
        handle.remove()
    count = sum(len(batch["boundaries"]) - 1 for batch in probe.batches)
    return {name: total / count for name, total in sums.items()}


def decompose(name: str, weight_OI: Tensor, covariance_II: Tensor | None, config: CordaConfig) -> Components:
    """Return the components of the weight of layer `name` that train. Without a covariance, components are ordered by size.

    Raises ValueError if the covariance is not finite, or if one of these components is zero.
    """
    w_OI = weight_OI.detach().double()
    context_OI, damped = w_OI, 0.0
    if covariance_II is not None:
        if not covariance_II.isfinite().all():
            raise ValueError(f"corda: the inputs of {name} on the probe are zero or not finite. Take another probe.")
        c_II = covariance_II.double()
        damping = DAMPING * c_II.diagonal().mean()
        damped = float((torch.linalg.eigvalsh(c_II) < damping).double().mean())
        context_OI = w_OI @ c_II + damping * w_OI
    u_OK, sigma_K, _ = torch.linalg.svd(context_OI, full_matrices=False)
    picked = slice(-config.rank, None) if config.mode == "kpm" else slice(config.rank)
    u_OR, sigma_R = u_OK[:, picked], sigma_K[picked]
    noise = torch.finfo(torch.float64).eps * max(w_OI.shape) * sigma_K[0]
    if zeros := int((sigma_R <= noise).sum()):
        raise ValueError(
            f"corda: methods.corda.mode {config.mode} with rank {config.rank} would train {zeros} components of {name} that are zero, "
            "and they could not move. Leave the layer out of `targets`."
        )
    root_R = (config.scale * sigma_R).sqrt()
    return Components(LowRank(u_OR.T @ w_OI / root_R[:, None], u_OR * (root_R / config.scale)), damped)


class CordaLinear(ChangedLinear):
    """A frozen linear layer plus s (B A - B0 A0)."""

    A0_RI: Tensor
    B0_OR: Tensor

    def __init__(self, base: nn.Linear, config: CordaConfig, components: Components | None) -> None:
        """Start from `components`; without them all four matrices are zero, to be filled from a saved adapter."""
        super().__init__()
        self.base, self.scale = base, config.scale
        self.damped = components.damped if components else None
        like = surgery.like(base.weight)
        a_RI, b_OR = (
            (factor.to(like).contiguous() for factor in components.factors)  # FSDP needs contiguous tensors
            if components
            else (like.new_zeros(config.rank, base.in_features), like.new_zeros(base.out_features, config.rank))
        )
        self.register_buffer("A0_RI", a_RI)
        self.register_buffer("B0_OR", b_OR)
        self.A_RI, self.B_OR = nn.Parameter(a_RI.clone()), nn.Parameter(b_OR.clone())

    def forward(self, x: Tensor) -> Tensor:
        y = x.to(self.A_RI.dtype)
        change = F.linear(F.linear(y, self.A_RI), self.B_OR) - F.linear(F.linear(y, self.A0_RI), self.B0_OR)
        out: Tensor = self.base(x)
        return out + (self.scale * change).to(out.dtype)

    def update(self) -> Tensor:
        """Return s (B A - B0 A0), (O, I)."""
        return self.scale * (self.B_OR @ self.A_RI - self.B0_OR @ self.A0_RI)

    @torch.no_grad()
    def change(self) -> LowRank:
        """Return s (B A - B0 A0) as one product of rank 2r, in fp32.

        The factors are the product's SVD with singular values split evenly between them. Their numbers are as small as the change itself, so
        storage in fewer bits preserves it.
        """
        a_IS = torch.cat([self.A_RI, self.A0_RI]).double().T
        b_OS = self.scale * torch.cat([self.B_OR, -self.B0_OR], dim=1).double()
        (q_IK, r_KS), (q_OM, r_MS) = torch.linalg.qr(a_IS), torch.linalg.qr(b_OS)
        u, sigma, vt = torch.linalg.svd(r_MS @ r_KS.T, full_matrices=False)
        root = sigma.sqrt()
        unused = b_OS.shape[1] - len(sigma)  # if 2r exceeds the layer's size
        a_SI = F.pad(root[:, None] * vt @ q_IK.T, (0, 0, 0, unused))
        return LowRank(a_SI.float(), F.pad(q_OM @ (u * root), (0, unused)).float())

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        trained, held = self.B_OR.double() @ self.A_RI.double(), self.B0_OR.double() @ self.A0_RI.double()
        weight = self.base.weight
        weight.copy_(weight.double() + self.scale * (trained - held))
        return self.base


def attach(model: nn.Module, config: CordaConfig, start: Start) -> nn.Module:
    """Freeze `model` and let components of each target train.

    Raises ValueError if the targets match nothing or are smaller than the rank, if the probe cannot order components, and as
    `decompose` does.
    """
    surgery.check_rank(model, config.targets, config.rank)
    layers = surgery.adaptable(model, config.targets)
    components: dict[str, Components] = {}
    if not start.tensors:
        of_inputs: Mapping[str, Tensor] = {}
        if config.covariance == "probe":
            of_inputs = covariances(model, layers, _telling(start.probe))
        components = {name: decompose(name, base.weight, of_inputs.get(name), config) for name, base in layers.items()}
    model.requires_grad_(False)
    for name, base in layers.items():
        surgery.replace(model, name, CordaLinear(base, config, components.get(name)))
    return model


def _telling(probe: Probe | None) -> Probe:
    """Return the probe. Raises ValueError if it is empty or repeats one token, because C would have no direction, or only one."""
    kinds = {token for batch in probe.batches for token in batch["input_ids"].flatten().tolist()} if probe else set()
    if probe is None or len(kinds) < 2:
        raise ValueError(
            f"corda orders components by the inputs of a probe, and the probe {'is one token' if kinds else 'is empty'}. "
            "Raise probe.tokens of the stage, or set methods.corda.covariance: identity."
        )
    return probe


def adapted(model: nn.Module) -> dict[str, CordaLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, CordaLinear)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every change in its weight."""
    return surgery.merge_layers(model, CordaLinear)


def finish(model: nn.Module) -> dict[str, LowRank]:
    """Return the change of each adapted weight, of rank 2r."""
    return {name: layer.change() for name, layer in adapted(model).items()}


def facts(model: nn.Module) -> dict[str, Any]:
    """Return the share of directions that the damping outweighs, by layer; empty for an adapter that started from a saved one."""
    shares = {name: layer.damped for name, layer in adapted(model).items()}
    return {"damped": {name: round(share, 4) for name, share in shares.items() if share is not None}}


METHOD = Adapter(attach=attach, merge=merge, finish=finish, facts=facts)
