"""Count bytes of tensors: those in memory at a time, as the allocator counts them, and those that a pass saves for the backward pass.

The allocator counts this process's tensors on the CPU. Further memory of Python and of libraries is not included.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Yield a list that at the end holds the bytes allocated inside the context, one value after each allocation and release."""
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr at each start and stop
    running, collects = [0], gc.isenabled()
    gc.disable()  # a collection would release tensors from before the context
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield running
    finally:
        if collects:
            gc.enable()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        running.append(running[-1] + event.nbytes())


def saved_bytes(model: nn.Module, row: Mapping[str, Tensor]) -> int:
    """Return the bytes that a forward pass over a row saves for the backward pass: each storage once, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(**row)["loss"]  # its graph holds the storages, so that none is counted twice or reused
    del loss
    return sum(storages.values())


def held_bytes(optimizer: Optimizer) -> int:
    """Return the bytes of an optimizer's gradients and state."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
    states: list[Any] = [state for state in optimizer.state.values() if isinstance(state, Mapping)]
    return gradients + sum(value.nbytes for state in states for value in state.values() if isinstance(value, Tensor))
