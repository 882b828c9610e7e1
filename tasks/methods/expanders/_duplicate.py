"""Copy decoder layers so that the copies change nothing until they are trained."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

from tasks.core.weights.surgery import decoder_layers, plain

WRITERS = (("self_attn.o_proj", "attn.c_proj"), ("mlp.down_proj", "mlp.c_proj"))
"""The two linear layers through which a decoder layer adds to the residual stream, each with its name in LLaMA and Qwen and its name in
GPT-2. With both at zero the layer passes on its input."""


def depth(model: nn.Module, layers: int) -> int:
    """Return the number of the model's decoder layers.

    Raises ValueError if there are fewer than `layers`, if a layer writes to the residual stream by other modules than `WRITERS`, or if its
    computation depends on its position or on the number of layers.
    """
    layers_of_model = decoder_layers(model)
    kind = type(plain(model)).__name__
    for number, layer in enumerate(layers_of_model):
        if len(writers(layer)) < len(WRITERS):
            missing = [names for names in WRITERS if not any(name in names for name in writers(layer))]
            raise ValueError(
                f"Layer {number} of {kind} has no linear layer {' and no '.join(' or '.join(names) for names in missing)}, as "
                "LLaMA, Qwen and GPT-2 models do, so a copy of it cannot be made neutral."
            )
    if getattr(plain(model).config, "scale_attn_by_inverse_layer_idx", False):
        raise ValueError(f"{kind} scales attention by the layer index, which copies of lower layers would change.")
    inner: Any = plain(model)
    if hasattr(
        inner.get_decoder(), "first_kv_shared_layer_idx"
    ):  # and Gemma 4 of small size embeds tokens for each layer
        raise ValueError(
            f"{kind} is made for the number of its layers: the upper ones may take keys and values of lower ones, so none can be added. "
            "Set `expander: none`."
        )
    if layers > len(layers_of_model):
        raise ValueError(
            f"layers={layers} are to be copied, and {kind} has {len(layers_of_model)}. Set at most so many."
        )
    return len(layers_of_model)


def writers(layer: nn.Module) -> dict[str, nn.Module]:
    """Return the `WRITERS` that a decoder layer has."""
    known = {name for names in WRITERS for name in names}
    return {n: m for n, m in layer.named_modules() if n in known and isinstance(m, nn.Linear | Conv1D)}


@torch.no_grad()
def duplicate(model: nn.Module, chosen: Sequence[int]) -> list[int]:
    """Insert a copy of each of the `chosen` layers directly after it, and return the places of the copies; only the copies train.

    The `WRITERS` of a copy have zero weight and bias, and everything else is equal to the layer's, so the model's function does not change.
    """
    layers = decoder_layers(model)
    origins = sorted([*range(len(layers)), *chosen])
    copies = [place for place in range(1, len(origins)) if origins[place] == origins[place - 1]]
    for place in copies:  # bottom up, so that later insertions do not move a copy
        layers.insert(place, _neutral_copy(layers[place - 1]))
    for place, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place  # type: ignore[assignment] # its place in a cache of keys and values

    inner: Any = plain(model)
    config = inner.get_decoder().config
    for name, value in vars(config).items():
        if "layer" in name and isinstance(value, list) and len(value) == config.num_hidden_layers:
            setattr(config, name, [value[origin] for origin in origins])  # `layer_types` and its like
    config.num_hidden_layers = len(layers)

    model.requires_grad_(False)
    for place in copies:
        layers[place].requires_grad_(True)
    return copies


def _neutral_copy(layer: nn.Module) -> nn.Module:
    # The model's config is shared by its modules, and a copy must see later changes of it.
    shared = {id(module.config): module.config for module in layer.modules() if hasattr(module, "config")}
    copy = deepcopy(layer, shared)
    for writer in writers(copy).values():
        for parameter in writer.parameters():
            parameter.zero_()
    return copy
