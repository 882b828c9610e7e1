"""Functions of Bi-AdaptFormer. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters import Adapter
from tasks.methods.adapters._binary import FULL, Branch, in_use
from tasks.methods.adapters.biadaptformer.config import BiadaptformerConfig

NORMS = ("post_attention_layernorm", "ln_2")
"""Names of the norm between a layer's stream and its MLP: in LLaMA and Qwen, and in GPT-2."""


class ParallelBranch(nn.Module):
    """A branch beside an MLP, which reads what the norm before the MLP reads."""

    def __init__(self, config: BiadaptformerConfig, width: int, like: Tensor) -> None:
        super().__init__()
        self.branch = Branch(config, width, width, like, relu=True)
        self.stream: Tensor | None = None
        """The input of the norm, until the MLP has run."""

    def note(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep the stream: a hook before the norm."""
        (self.stream,) = inputs

    def add(self, mlp: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the MLP's output with the branch's added: a hook after it."""
        stream, self.stream = self.stream, None
        return output + self.branch(stream).to(output.dtype)


def attach(model: nn.Module, config: BiadaptformerConfig, start: Start) -> nn.Module:
    """Freeze `model` and put a branch beside each MLP.

    Raises ValueError where the rank is above the model's width, and for layers that put their norms elsewhere.
    """
    inner: Any = surgery.plain(model)
    width: int = inner.config.hidden_size
    if config.rank > width:
        raise ValueError(f"rank {config.rank} is above the model's width: take at most {width}.")
    layers: Any = surgery.decoder_layers(model)
    norms = [_norm(layer) for layer in layers]
    model.requires_grad_(False)
    for layer, norm in zip(layers, norms, strict=True):
        layer.biadaptformer = branch = ParallelBranch(config, width, norm.weight)
        norm.register_forward_pre_hook(branch.note)
        layer.mlp.register_forward_hook(branch.add)
    return model


@torch.no_grad()
def used(tensors: Mapping[str, Tensor], config: BiadaptformerConfig) -> tuple[dict[str, Tensor], BiadaptformerConfig]:
    """Return the matrices of a saved adapter in the values that they are used in, and the config that quantises nothing."""
    return (
        {name: in_use(tensor, config.bits) for name, tensor in tensors.items()},
        config.model_copy(update={"bits": FULL}),
    )


def _norm(layer: Any) -> Any:
    """Return the norm whose output the layer's MLP reads. Raises ValueError for layers that have none, or one after the MLP too."""
    before = [name for name in NORMS if hasattr(layer, name)]
    after = [name for name, _ in layer.named_children() if "feedforward" in name]
    if not before or after or not hasattr(layer, "mlp"):
        raise ValueError(
            f"{type(layer).__name__} has {', '.join(after) or 'no ' + ' or '.join(NORMS)}, and biadaptformer needs a layer with one norm "
            "right before `mlp`. Use adapter binadapter."
        )
    return getattr(layer, before[0])


METHOD = Adapter(attach=attach, used=used)
