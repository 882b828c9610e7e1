"""Functions of SoKA. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter
from tasks.methods.adapters._changed import ChangedLinear
from tasks.methods.adapters.soka import terms
from tasks.methods.adapters.soka.config import SokaConfig
from tasks.methods.adapters.soka.terms import Shape, Spectrum, Terms


class SokaLinear(ChangedLinear):
    """A frozen linear layer plus a sum of Kronecker products minus the sum that it started from."""

    A0_RMN: Tensor
    B0_RPQ: Tensor

    def __init__(self, base: nn.Linear, start: Terms, facts: Mapping[str, Any] | None) -> None:
        """Start from these products. `facts` records how they were chosen; None for those of a saved adapter."""
        super().__init__()
        self.base, self.facts = base, facts
        like = surgery.like(base.weight)
        self.register_buffer("A0_RMN", start.A_RMN.to(like).contiguous())
        self.register_buffer("B0_RPQ", start.B_RPQ.to(like).contiguous())
        self.A_RMN, self.B_RPQ = nn.Parameter(self.A0_RMN.clone()), nn.Parameter(self.B0_RPQ.clone())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + F.linear(x, self.update().to(x.dtype)).to(out.dtype)

    def update(self) -> Tensor:
        """Return the sum of products minus the sum at the start, (O, I)."""
        return terms.total(Terms(self.A_RMN, self.B_RPQ)) - terms.total(Terms(self.A0_RMN, self.B0_RPQ))

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        trained = terms.total(Terms(self.A_RMN.double(), self.B_RPQ.double()))
        held = terms.total(Terms(self.A0_RMN.double(), self.B0_RPQ.double()))
        self.base.weight.copy_(self.base.weight.double() + trained - held)
        return self.base


def attach(model: nn.Module, config: SokaConfig, start: Start) -> nn.Module:
    """Freeze `model` and let Kronecker products of each target train.

    Raises ValueError if the targets match nothing, if `shapes` or `max_terms` do not fit a layer, and as `decompose` and
    `share_out` do.
    """
    layers = surgery.adaptable(model, config.targets)
    shapes = _shapes(layers, config)
    if start.tensors:
        begun = {name: _empty(shape, start.tensors.get(f"{name}.A_RMN")) for name, shape in shapes.items()}
        facts: dict[str, dict[str, Any]] = {}
    else:
        spectra = {name: terms.decompose(name, base.weight, shapes[name], config) for name, base in layers.items()}
        counts = (
            terms.share_out(spectra, config, config.budget)
            if config.budget
            else {name: terms.count(spectrum, config) for name, spectrum in spectra.items()}
        )
        begun = {name: _begin(spectrum, counts[name]) for name, spectrum in spectra.items()}
        if config.init == "random":
            draw = torch.Generator().manual_seed(start.seed)
            begun = {name: _random(those, draw) for name, those in begun.items()}
        facts = {name: _facts(spectrum, counts[name], config) for name, spectrum in spectra.items()}
    model.requires_grad_(False)
    for name, base in layers.items():
        surgery.replace(model, name, SokaLinear(base, begun[name], facts.get(name)))
    return model


def _shapes(layers: Mapping[str, nn.Linear], config: SokaConfig) -> dict[str, Shape]:
    """Return the sides of A and B of each layer.

    Raises ValueError if they do not divide the layer, or if the layer has fewer products than `max_terms`.
    """
    endings = {name.rpartition(".")[2] for name in layers}
    if unknown := sorted(config.shapes.keys() - endings):
        raise ValueError(
            f"methods.soka.shapes names {', '.join(unknown)}, and the targets are {', '.join(sorted(endings))}."
        )
    shapes = {}
    for name, layer in layers.items():
        out, into = layer.out_features, layer.in_features
        m, n = config.shapes.get(name.rpartition(".")[2], (terms.nearest_divisor(out), terms.nearest_divisor(into)))
        if out % m or into % n:
            raise ValueError(f"methods.soka.shapes: {m} × {n} does not divide {name}, whose weight is {out} × {into}.")
        shapes[name] = shape = Shape(m, n, out // m, into // n)
        if config.max_terms > shape.most:
            raise ValueError(
                f"methods.soka.max_terms {config.max_terms} is above {name}: its weight of {out} × {into} is a sum of {shape.most} "
                f"Kronecker products of {m} × {n} and {shape.p} × {shape.q}. Take at most {shape.most}."
            )
    return shapes


def _begin(spectrum: Spectrum, count: int) -> Terms:
    """Return the first `count` products."""
    return Terms(spectrum.leading.A_RMN[:count], spectrum.leading.B_RPQ[:count])


def _empty(shape: Shape, saved_RMN: Tensor | None) -> Terms:
    """Return as many products as a saved adapter has, to be filled."""
    count = 1 if saved_RMN is None else len(saved_RMN)
    return Terms(torch.zeros(count, shape.m, shape.n), torch.zeros(count, shape.p, shape.q))


def _random(those: Terms, draw: torch.Generator) -> Terms:
    """Return equally many products with random A of the same norms as the given ones, and B = 0."""
    a_RMN = torch.randn(those.A_RMN.shape, generator=draw, dtype=torch.float64).to(those.A_RMN)
    length = those.A_RMN.flatten(1).norm(dim=1) / a_RMN.flatten(1).norm(dim=1)
    return Terms(a_RMN * length[:, None, None], torch.zeros_like(those.B_RPQ))


def _facts(spectrum: Spectrum, count: int, config: SokaConfig) -> dict[str, Any]:
    """Return the figures that determined a layer's number of products."""
    return {
        "terms": count,
        "by_energy": terms.by_energy(spectrum.sigma_K, config.energy),
        "by_elbow": terms.by_elbow(spectrum.sigma_K, len(spectrum.leading.A_RMN)),
        "energy": round(spectrum.energy(count), 4),
    }


def adapted(model: nn.Module) -> dict[str, SokaLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, SokaLinear)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every change in its weight."""
    return surgery.merge_layers(model, SokaLinear)


def facts(model: nn.Module) -> dict[str, Any]:
    """Return the number of products of each layer and the figures that determined it; empty if the adapter started from a saved one."""
    return {"layers": {name: layer.facts for name, layer in adapted(model).items() if layer.facts}}


METHOD = Adapter(attach=attach, merge=merge, facts=facts)
