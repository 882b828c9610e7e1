"""Gather weights that FSDP has sharded over processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn
from torch.distributed.fsdp import FSDPModule

from tasks.engine.training.compose import Attached


@contextmanager
def whole_root(model: nn.Module) -> Iterator[None]:
    """Keep FSDP's embeddings, norm and head gathered for as long as it lasts: they gather in the forward of the whole model only.

    Decoder layers gather theirs in their own forward, whoever calls it.
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
    """Return the model with every weight gathered in every process."""
    full: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    for module in attached.model.modules():
        for name, shard in list(module.named_parameters(recurse=False)):
            if shard not in full:
                tensor = shard.full_tensor() if hasattr(shard, "full_tensor") else shard
                full[shard] = nn.Parameter(tensor.detach(), requires_grad=shard.requires_grad)
            setattr(module, name, full[shard])
    parameters = dict(attached.model.named_parameters())
    return replace(attached, trainable={name: parameters[name] for name in attached.trainable})
