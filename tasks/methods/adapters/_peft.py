"""Functions that the wrappers over peft share."""

import re
from collections.abc import Sequence
from typing import Any

import peft
from torch import nn

from tasks.core.weights.surgery import ALL_LINEAR, bypassed, is_gate, sizes

OF_EXPERTS = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
"""Names that peft treats as expert weights of a mixture, even where a dense layer has them."""


def wrap(model: nn.Module, config: Any) -> nn.Module:
    """Return peft's wrapper around `model`, in which only the modules that peft's `config` inserts train.

    With `all-linear` the layers of `bypassed` are left out. Raises ValueError if they are named explicitly.
    """
    if config.target_modules != ALL_LINEAR and (named := sorted({*config.target_modules} & {*bypassed(model)})):
        raise ValueError(
            f"targets {', '.join(named)}: recurrent layers of {type(model).__name__} read their weights past an adapter, some only in the kernel of a GPU, "
            "so that it would train nothing there. Leave them out."
        )
    endings, adapted = {name.rpartition(".")[2] for name in sizes(model, ALL_LINEAR)}, all_linear(model)
    if decoder := _decoder(model):
        chosen = sorted(adapted if config.target_modules == ALL_LINEAR else config.target_modules)
        config.target_modules = rf"{re.escape(decoder)}\..*\.({'|'.join(chosen)})"
    elif config.target_modules == ALL_LINEAR and (adapted != endings or any(map(is_gate, model.modules()))):
        config.target_modules = sorted(adapted)  # peft would adapt the others too
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        if "ParamWrapper does not work" not in str(error):
            raise
        raise ValueError(
            f"{type(model).__name__} holds the weights of its experts in one tensor a layer, and peft adapts such tensors by a LoRA without dropout alone. "
            f"Take adapter lora with `dropout: 0`, or set `targets` to layers beside the experts: {', '.join(sorted(endings - OF_EXPERTS))}."
        ) from None


def all_linear(model: Any) -> set[str]:
    """Return the names of the layers that `all-linear` adapts, in the form that peft reads: the last segment of the name. Where that is a
    number, which decoder layers end in too, it is the full name (Zamba 2)."""
    names = {name if (end := name.rpartition(".")[2]).isdigit() else end for name in sizes(model, ALL_LINEAR)}
    return names.difference(bypassed(model))


def _decoder(model: Any) -> str:
    """Return the name of the decoder in a model that has linear layers outside it, such as a vision tower; empty for any other model.

    With `all-linear`, and by equal last segments of names, peft would adapt those layers too, although text does not use them.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    inside = {id(module) for module in decoder.modules()}
    beside = [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in inside and m is not head]
    return next(name for name, module in model.named_modules() if module is decoder) if beside else ""


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every update in its weights, by peft."""
    return model.merge_and_unload()  # type: ignore[operator]


def named(targets: Sequence[str] | str) -> str | list[str]:
    """Return `targets` in peft's form: peft reads a string other than `all-linear` as a regular expression, so a name becomes a list."""
    if targets in (ALL_LINEAR, (ALL_LINEAR,)):
        return ALL_LINEAR
    return [targets] if isinstance(targets, str) else list(targets)
