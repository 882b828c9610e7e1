"""Find and replace layers of a transformers model (like LLaMA, Qwen or GPT-2), for all methods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

M = TypeVar("M")
Layer = TypeVar("Layer", bound="nn.Module")

ALL_LINEAR = "all-linear"
"""The value of `targets` for every linear layer in the decoder layers, so never the head. Gates with one output, such as that of Qwen2-MoE's shared expert,
are left out, because there is no rank to adapt."""

BYPASSED = {
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "zamba2"), ("out_proj",)),
    **dict.fromkeys(("falcon_mamba", "mamba"), ("x_proj", "dt_proj", "out_proj")),
    "jamba": ("dt_proj",),
}
"""Family → linear layers whose weight its recurrent layers read directly, bypassing an adapter's module: Jamba and Mamba always do so for `dt_proj`, the
others in a fused kernel on a GPU. An adapter of peft there would not be trained, and peft refuses some of these layers. Their weights must not be quantised to
integers."""

LISTS = ("layers", "h")
"""Names of a decoder's list of layers: in LLaMA and Qwen, and in GPT-2."""


def plain(model: nn.Module) -> nn.Module:
    """Return the transformers model, without peft's wrapper."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the model's decoder layers, from the bottom up. If you replace an entry, the model changes.

    Raises ValueError if the model's decoder has no list of layers with a name in `LISTS`.
    """
    from torch import nn

    inner: Any = plain(model)
    decoder = _decoder(inner)
    for name in LISTS:
        if isinstance(layers := getattr(decoder, name, None), nn.ModuleList):
            return layers
    raise ValueError(
        f"{type(inner).__name__} keeps no list `layers` in its decoder, as LLaMA and Qwen models do, nor `h`, as GPT-2 does."
    )


def _decoder(inner: Any) -> Any:
    return inner.get_decoder() if hasattr(inner, "get_decoder") else inner


def linears(
    model: nn.Module, targets: Sequence[str] | str, *, numbers: bool = True, setting: str = "targets"
) -> dict[str, nn.Linear]:
    """Return the linear layers whose last name segment is in `targets`, or all of the decoder layers, by their full names.

    `setting` is the name of `targets` in messages. Raises ValueError if `targets` is empty or matches nothing, if the method needs a layer's `numbers` and they are
    not stored in floating point, and for GPT-2, whose layers are not `nn.Linear`.
    """
    from torch import nn

    inside = {id(module) for layer in decoder_layers(model) for module in layer.modules()}
    known = {n: m for n, m in plain(model).named_modules() if isinstance(m, nn.Linear) and id(m) in inside}
    if not known:
        raise ValueError(
            f"{type(plain(model)).__name__} has no nn.Linear in its decoder layers, and this method changes no other layer."
        )
    layers = _named(model, known, targets, setting)
    for name, layer in layers.items():
        if numbers and not layer.weight.is_floating_point():
            raise ValueError(
                f"{name} is stored as {layer.weight.dtype}, and this method needs its numbers. Use `base: none`."
            )
    return layers


def adaptable(model: nn.Module, targets: Sequence[str] | str, *, numbers: bool = True) -> dict[str, nn.Linear]:
    """Return `linears` for an adapter of our own. `all-linear` leaves out the layers of `BYPASSED`, where the LoRA as which it is saved would have no effect."""
    return _without_bypassed(model, targets, linears(model, targets, numbers=numbers))


def adapted_sizes(model: nn.Module, targets: Sequence[str] | str) -> dict[str, tuple[int, int]]:
    """Return `sizes` of the layers to which an adapter is added. `all-linear` leaves out those of `BYPASSED`."""
    return _without_bypassed(model, targets, sizes(model, targets))


def _without_bypassed(model: nn.Module, targets: Sequence[str] | str, layers: dict[str, M]) -> dict[str, M]:
    left_out = bypassed(plain(model)) if targets in (ALL_LINEAR, (ALL_LINEAR,)) else ()
    return {name: layer for name, layer in layers.items() if name.rpartition(".")[2] not in left_out}


def bypassed(model: Any) -> tuple[str, ...]:
    """Return the last name segments of a transformers model's layers in `BYPASSED`; none for other families."""
    config = getattr(model, "config", None)
    return BYPASSED.get(config.get_text_config().model_type, ()) if config else ()


def sizes(model: nn.Module, targets: Sequence[str] | str) -> dict[str, tuple[int, int]]:
    """Return (output, input) features of the layers that `targets` names, in any storage format. Any layer of the decoder may be named, but neither
    the head nor layers of a vision tower.

    Raises ValueError if `targets` is empty or matches nothing.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, whose weight is transposed

    def size(layer: Any) -> tuple[int, int]:
        return tuple(layer.weight.shape)[::-1] if isinstance(layer, Conv1D) else (layer.out_features, layer.in_features)

    inner: Any = plain(model)
    inside, head = {id(module) for module in _decoder(inner).modules()}, inner.get_output_embeddings()
    known = {
        n: m
        for n, m in inner.named_modules()
        if isinstance(m, nn.Linear | Conv1D) and id(m) in inside and m is not head
    }
    return {name: size(layer) for name, layer in _named(model, known, targets).items()}


def check_rank(model: nn.Module, targets: Sequence[str] | str, rank: int) -> None:
    """Raise ValueError if a layer to which an adapter with these targets is added is smaller than `rank`."""
    name, size = min(adapted_sizes(model, targets).items(), key=lambda item: min(item[1]))
    if rank > min(size):
        raise ValueError(
            f"rank {rank} is above {name}, whose weight is {size[0]} × {size[1]}: take at most {min(size)}."
        )


def _named(
    model: nn.Module, known: dict[str, M], targets: Sequence[str] | str, setting: str = "targets"
) -> dict[str, M]:
    """Return the layers of `known` that `targets` names."""
    wanted = {targets} if isinstance(targets, str) else set(targets)
    if not wanted or "" in wanted:
        raise ValueError(f"{setting}: names no layer. Name some by how they end, or set `{setting}: {ALL_LINEAR}`.")
    if ALL_LINEAR in wanted and (others := sorted(wanted - {ALL_LINEAR})):
        raise ValueError(
            f"{setting}: {ALL_LINEAR} stands beside {', '.join(others)}. Take `{setting}: {ALL_LINEAR}`, or the names alone."
        )
    endings = sorted({name.rpartition(".")[2] for name in known})
    if missing := sorted(wanted - {ALL_LINEAR, *endings}):
        raise ValueError(
            f"{setting} {', '.join(missing)} match no linear layer of {type(plain(model)).__name__}. "
            f"Its linear layers end in: {', '.join(endings)}."
        )
    if wanted == {ALL_LINEAR}:
        return {name: layer for name, layer in known.items() if not is_gate(layer)}
    return {n: m for n, m in known.items() if n.rpartition(".")[2] in wanted}


def is_gate(layer: Any) -> bool:
    """Return True for a linear layer with one output."""
    return getattr(layer, "out_features", 0) == 1


BASES = ("base_layer", "base")
"""Names under which an adapter's layer holds the plain layer that it adapts: those of peft, and our own."""


def base_layer(module: nn.Module) -> nn.Module:
    """Return the plain layer inside an adapter's layer, or the module itself if it is none."""
    return next((inner for key in BASES if (inner := getattr(module, key, None)) is not None), module)


def owners(model: nn.Module) -> dict[str, str]:
    """Map the name of each trainable parameter in `model` to the full name of the plain layer that it belongs to or adapts.

    The layer of `…q_proj.lora_A.default.weight` is `…q_proj`. Parameters outside linear layers (embeddings, norms, prompts) are left out.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    owner: dict[nn.Parameter, str] = {}
    for name, module in plain(model).named_modules():  # outer modules first
        if isinstance(base_layer(module), nn.Linear | Conv1D):
            for parameter in module.parameters():
                owner.setdefault(parameter, name)
    return {
        name: owner[parameter]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter in owner
    }


def layer_number(name: str) -> int:
    """Return the number of the decoder layer in a module's full name, counted from the bottom: 3 for `model.layers.3.mlp.up_proj`."""
    return next(int(number) for holder, number in pairwise(name.split(".")) if holder in LISTS)


def like(weight: Tensor) -> Tensor:
    """Return an empty tensor for training beside a weight: on its device, in fp32, or in its type if that has more bits."""
    import torch

    return weight.new_empty(0, dtype=torch.promote_types(weight.dtype, torch.float32))


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the module of this full name by `module`."""
    parent, _, last = name.rpartition(".")
    setattr(plain(model).get_submodule(parent), last, module)


def frame(model: nn.Module) -> nn.Module:
    """Return a copy of a model's modules that shares its tensors. Changes of the copy's modules leave the model unchanged."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def layers_of(model: nn.Module, kind: type[Layer]) -> dict[str, Layer]:
    """Return the modules of a class by their full names."""
    return {name: module for name, module in plain(model).named_modules() if isinstance(module, kind)}


def merge_layers(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Return the model with each module of a class replaced by the result of its `merge`."""
    for name, layer in layers_of(model, kind).items():
        merge: Any = layer.merge
        replace(model, name, merge())
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode, and restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
