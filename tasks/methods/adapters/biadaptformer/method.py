"""Functions of Bi-AdaptFormer. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tasks.core.training import Start
from tasks.methods.adapters import Adapter, _parallel
from tasks.methods.adapters._binary import FULL, Branch, in_use
from tasks.methods.adapters.biadaptformer.config import BiadaptformerConfig


def attach(model: nn.Module, config: BiadaptformerConfig, start: Start) -> nn.Module:
    """Freeze `model` and put a branch beside each MLP.

    Raises ValueError if the rank is above the model's hidden size, and for layers with their norms elsewhere.
    """
    width = _parallel.check_width(model, config.rank)

    def make(name: str, norm: nn.Module) -> Branch:
        return Branch(config, width, width, norm.get_parameter("weight"), relu=True)

    _parallel.put_beside(model, "biadaptformer", make)
    return model


@torch.no_grad()
def used(tensors: Mapping[str, Tensor], config: BiadaptformerConfig) -> tuple[dict[str, Tensor], BiadaptformerConfig]:
    """Return the matrices of a saved adapter as quantised for use, and the config that quantises nothing."""
    return (
        {name: in_use(tensor, config.bits) for name, tensor in tensors.items()},
        config.model_copy(update={"bits": FULL}),
    )


METHOD = Adapter(attach=attach, used=used)
