"""Functions of MoSA. Equations and the legend of symbols are in the card, `__init__.py`."""

import copy

from torch import Tensor, nn

from tasks.core.training import Start
from tasks.core.weights.row import listen
from tasks.methods.adapters import Adapter, _parallel
from tasks.methods.adapters._split import Draws, Pair, on_step
from tasks.methods.adapters.mosa.config import MosaConfig


class Block(nn.Module):
    """The block s U dropout(GELU(D norm_a(x)))."""

    def __init__(self, config: MosaConfig, width: int, norm: nn.Module, draws: Draws, name: str) -> None:
        super().__init__()
        self.scale = config.scale
        self.pair = Pair(config, width, width, norm.get_parameter("weight"), draws, name, gelu=True)
        self.norm = copy.deepcopy(norm).to(self.pair.dtype).requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pair(self.norm(x.to(self.pair.dtype)))
        return self.scale * out


def attach(model: nn.Module, config: MosaConfig, start: Start) -> nn.Module:
    """Freeze `model` and put a block beside each MLP.

    Raises ValueError if the rank is above the model's hidden size, and for layers with their norms elsewhere.
    """
    width = _parallel.check_width(model, config.rank)
    draws = Draws(start.seed, listen(model))

    def make(name: str, norm: nn.Module) -> Block:
        return Block(config, width, norm, draws, name)

    _parallel.put_beside(model, "mosa", make)
    return model


METHOD = Adapter(attach=attach, on_step=on_step)
