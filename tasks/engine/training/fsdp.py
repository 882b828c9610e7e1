"""Gather the weights and the optimizer's state, which FSDP shards over processes, and shard them again from a checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from tasks.engine.training.compose import Attached


@contextmanager
def whole_root(model: nn.Module) -> Iterator[None]:
    """Keep embeddings, norm and head gathered inside the context: FSDP gathers them only in the forward of the whole model.

    Decoder layers gather their own weights in their own forward, also when it is called from elsewhere.
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


def optimizer_state(optimizer: Optimizer, *, keep: bool) -> dict[str, Any]:
    """Return the state of an optimizer with whole tensors on the CPU. All processes must call this; only those with `keep` keep the tensors."""

    def whole(value: Any) -> Any:
        value = value.full_tensor() if isinstance(value, DTensor) else value
        if not keep:
            return None
        return value.cpu() if isinstance(value, Tensor) else value

    state: dict[str, Any] = tree_map(whole, optimizer.state_dict())
    return state


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state that `optimizer_state` returned into an optimizer, sharded as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shards = {
        number: {
            name: sharded(value, parameters[number]) if _is_of(value, parameters[number]) else value
            for name, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shards})


@torch.no_grad()
def sharded(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's shard of a tensor that every process holds completely, sharded like a parameter of the same shape."""
    if not isinstance(parameter, DTensor):
        return tensor
    here = tensor.to(parameter.device)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _is_of(value: Any, parameter: Tensor) -> bool:
    """Return True for optimizer state with one value for each element of a parameter, such as its moments."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape
