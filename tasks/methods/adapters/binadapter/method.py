"""Functions of Bi-LoRA. Equations and the legend of symbols are in the card, `__init__.py`."""

import torch
from torch import Tensor, nn

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters._binary import Branch
from tasks.methods.adapters._changed import ChangedLinear
from tasks.methods.adapters.binadapter.config import BinadapterConfig


class BinadapterLinear(ChangedLinear):
    """A frozen linear layer plus s B A, whose matrices are used in 2^b values."""

    def __init__(self, base: nn.Linear, config: BinadapterConfig) -> None:
        super().__init__()
        self.base = base
        self.branch = Branch(config, base.in_features, base.out_features, base.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + self.branch(x).to(out.dtype)

    def update(self) -> Tensor:
        """Return s B A as it is used, (O, I), without dropout."""
        down_RI, up_OR = self.branch.used()
        return self.branch.scale * up_OR @ down_RI

    @torch.no_grad()
    def change(self) -> LowRank:
        """Return A and s B as they are used, 2^b values each."""
        a_RI, b_OR = self.branch.used()
        return LowRank(a_RI, self.branch.scale * b_OR)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        a_RI, b_OR = self.change()
        self.base.weight.copy_(self.base.weight.to(a_RI.dtype) + b_OR @ a_RI)
        return self.base


def attach(model: nn.Module, config: BinadapterConfig, start: Start) -> nn.Module:
    """Freeze `model` and put A and B beside each target.

    Raises ValueError if the targets match nothing or are smaller than the rank.
    """
    surgery.check_rank(model, config.targets, config.rank)
    layers = surgery.adaptable(model, config.targets, numbers=False)
    model.requires_grad_(False)
    for name, base in layers.items():
        surgery.replace(model, name, BinadapterLinear(base, config))
    return model


def adapted(model: nn.Module) -> dict[str, BinadapterLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, BinadapterLinear)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every update in its weight."""
    return surgery.merge_layers(model, BinadapterLinear)


def finish(model: nn.Module) -> dict[str, LowRank]:
    """Return the change of each adapted weight in the values that were trained with."""
    return {name: layer.change() for name, layer in adapted(model).items()}


METHOD = Adapter(attach=attach, merge=merge, finish=finish)
