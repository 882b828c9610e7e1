"""Whole weights again, where FSDP has left each process a part of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn
from torch.distributed.fsdp import FSDPModule

from tasks.engine.compose import Attached


@contextmanager
def whole_root(model: nn.Module) -> Iterator[None]:
    """While this lasts FSDP's model has whole embeddings, norm and head, which it gathers in its own forward alone.

    Decoder layers gather theirs in their forward, whoever calls it.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def gathered(attached: Attached) -> Attached:
    """The model with whole weights again, where FSDP has left each process a part of them."""
    whole: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    for module in attached.model.modules():
        for name, part in list(module.named_parameters(recurse=False)):
            if part not in whole:
                tensor = part.full_tensor() if hasattr(part, "full_tensor") else part
                whole[part] = nn.Parameter(tensor.detach(), requires_grad=part.requires_grad)
            setattr(module, name, whole[part])
    found = dict(attached.model.named_parameters())
    return replace(attached, trainable={name: found[name] for name in attached.trainable})
