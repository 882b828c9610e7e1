"""Functions that the wrappers over peft share."""

from collections.abc import Sequence

import peft
from torch import nn

from tasks.core.weights.surgery import ALL_LINEAR


def wrap(model: nn.Module, config: peft.PeftConfig) -> nn.Module:
    """Return peft's wrapper around `model`, frozen but for the modules that `config` puts into it."""
    return peft.get_peft_model(model, config)


def merge(model: nn.Module) -> nn.Module:
    """Return the plain model with every update in its weights, by peft."""
    return model.merge_and_unload()  # type: ignore[operator]


def named(targets: Sequence[str] | str) -> str | list[str]:
    """Return `targets` as peft takes them: it would read another string than `all-linear` as a regular expression."""
    if targets in (ALL_LINEAR, (ALL_LINEAR,)):
        return ALL_LINEAR
    return [targets] if isinstance(targets, str) else list(targets)
