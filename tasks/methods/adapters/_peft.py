"""What the wrappers over peft share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.surgery import ALL_LINEAR

if TYPE_CHECKING:
    from torch import nn


def wrap(model: nn.Module, config: Any) -> nn.Module:
    """peft's wrapper around `model`, frozen but for the modules that `config` puts into it."""
    from peft import get_peft_model

    return get_peft_model(model, config)


def merge(model: nn.Module) -> nn.Module:
    """The plain model with every update in its weights, by peft."""
    return model.merge_and_unload()  # type: ignore[operator]


def named(targets: Sequence[str] | str) -> str | list[str]:
    """`targets` as peft takes them: it would read another string than `all-linear` as a regular expression."""
    if targets in (ALL_LINEAR, (ALL_LINEAR,)):
        return ALL_LINEAR
    return [targets] if isinstance(targets, str) else list(targets)
