"""Put a block beside each MLP, which reads the residual stream before the norm, for adapters in the manner of AdaptFormer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tasks.core.weights import surgery

NORMS = ("post_attention_layernorm", "ln_2")
"""Names of the norm between a layer's residual stream and its MLP: in LLaMA and Qwen, and in GPT-2."""
AFTER = ("feedforward", "post_mlp", "mlp_sconv", "post_norm2", "ffn_hc")
"""Parts of the names of modules between a layer's MLP and its residual stream: in Gemma 2 and Glm 4, Inkling, HyperCLOVA X, DeepSeek V4."""
SCALES = ("residual_multiplier", "residual_scale", "mlp_beta_factor")
"""Names of the factor by which a layer multiplies the output of its MLP: in Granite, MiniCPM3, MiniMax."""


class ParallelBranch(nn.Module):
    """A branch beside an MLP, which reads the input of the norm before the MLP."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.stream: Tensor | None = None
        """The input of the norm, until the MLP has run."""

    def note(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Store the stream. This is a hook before the norm."""
        (self.stream,) = inputs

    def add(self, mlp: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Return the MLP's output plus the branch's. This is a hook after the MLP. Mixtures of experts such as gpt-oss return a tuple with the
        router's scores."""
        if isinstance(output, tuple):
            return (self.add(mlp, inputs, output[0]), *output[1:])
        stream, self.stream = self.stream, None
        return output + self.branch(stream).to(output.dtype)


def put_beside(model: nn.Module, method: str, make: Callable[[str, nn.Module], nn.Module]) -> None:
    """Freeze `model` and put a branch beside each MLP, in the layer's attribute `method`.

    `make` returns the branch, given the layer's name and the norm before its MLP. Raises ValueError for layers with their norms elsewhere.
    """
    layers: Any = surgery.decoder_layers(model)
    norms = [_norm(layer, method) for layer in layers]
    model.requires_grad_(False)
    for number, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        branch = ParallelBranch(make(f"layers.{number}", norm))
        setattr(layer, method, branch)
        norm.register_forward_pre_hook(branch.note)
        layer.mlp.register_forward_hook(branch.add)


def check_width(model: nn.Module, rank: int) -> int:
    """Return the model's hidden size. Raises ValueError if the rank is above it."""
    inner: Any = surgery.plain(model)
    width: int = inner.config.get_text_config().hidden_size
    if rank > width:
        raise ValueError(f"rank {rank} is above the model's width: take at most {width}.")
    return width


def _norm(layer: Any, method: str) -> Any:
    """Return the norm whose output the layer's MLP reads. Raises ValueError for layers without one, or that change the MLP's output."""
    before = [name for name in NORMS if getattr(layer, name, None) is not None]
    parts = [name for name, part in layer.named_children() if not isinstance(part, nn.Identity)]
    after = [name for name in parts if any(known in name for known in AFTER)]
    after += [f"{name} {scale:g}" for name in SCALES if (scale := getattr(layer, name, 1)) != 1]
    if not before or after or not hasattr(layer, "mlp"):
        raise ValueError(
            f"{type(layer).__name__} has {', '.join(after) or 'no ' + ' or '.join(NORMS)}, and {method} needs a layer with one norm "
            "right before `mlp`, and with nothing between `mlp` and the stream. Use adapter binadapter."
        )
    return getattr(layer, before[0])
