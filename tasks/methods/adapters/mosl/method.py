"""Functions of MoSL. Equations and the legend of symbols are in the card, `__init__.py`."""

import torch
from torch import Tensor, nn

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.row import listen, unlisten
from tasks.methods.adapters import Adapter, LowRank
from tasks.methods.adapters._split import Draws, Pair, on_step
from tasks.methods.adapters.mosl.config import MoslConfig


class MoslLinear(nn.Module):
    """A frozen linear layer plus a low-rank change that trains in parts."""

    def __init__(self, base: nn.Linear, config: MoslConfig, draws: Draws, name: str) -> None:
        super().__init__()
        self.base, self.scale = base, config.scale
        self.pair = Pair(config, base.in_features, base.out_features, base.weight, draws, name)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + (self.scale * self.pair(x)).to(out.dtype)

    @torch.no_grad()
    def change(self) -> LowRank:
        """Return the change of the weight, with the mean over parts."""
        return LowRank(self.pair.down.weight(None).detach(), self.scale * self.pair.up.weight(None))

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Return the plain linear layer that computes the same function."""
        a_RI, b_OR = (matrix.double() for matrix in self.change())
        self.base.weight.copy_(self.base.weight.double() + b_OR @ a_RI)
        return self.base


def attach(model: nn.Module, config: MoslConfig, start: Start) -> nn.Module:
    """Freeze `model` and put a change beside each target.

    Raises ValueError if the targets match nothing, or match a layer smaller than the rank.
    """
    surgery.check_rank(model, config.targets, config.rank)
    layers = surgery.linears(model, config.targets, numbers=False)
    model.requires_grad_(False)
    draws = Draws(start.seed, listen(model))
    for name, base in layers.items():
        surgery.replace(model, name, MoslLinear(base, config, draws, name))
    return model


def adapted(model: nn.Module) -> dict[str, MoslLinear]:
    """Return the adapted layers by their full names."""
    return surgery.layers_of(model, MoslLinear)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every change in its weight."""
    merged = surgery.merge_layers(model, MoslLinear)
    unlisten(merged)
    return merged


def finish(model: nn.Module) -> dict[str, LowRank]:
    """Return the change of each adapted weight."""
    return {name: layer.change() for name, layer in adapted(model).items()}


METHOD = Adapter(attach=attach, on_step=on_step, merge=merge, finish=finish)
