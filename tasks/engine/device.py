"""Apply section `compute`: the device that a model computes on, its precision, and the processes that share a training."""

import os
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TypedDict

import torch

from tasks.core.compute import Compute


def use(compute: Compute) -> None:
    """Set the thread count and ask for deterministic kernels. Raises ValueError if this machine has no such device."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[compute.device]:
        names = ", ".join(name for name, present in available.items() if present)
        raise ValueError(f"compute.device: {compute.device!r} is not on this machine. There is: {names}.")
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True, warn_only=compute.device != "cpu")


def precision(compute: Compute) -> str:
    """Return `fp32` or `bf16`; for `auto` the faster one on this machine.

    On a CPU bf16 is faster where its matrix products run at twice the rate of fp32: with AMX, and with AVX512-BF16 on AMD. On Intel CPUs
    without AMX, AVX512-BF16 was measured at half the rate of fp32.
    """
    if compute.precision != "auto":
        return compute.precision
    if compute.device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    fast = compute.device == "cpu" and (torch.cpu.get_capabilities().get("amx_bf16") or is_amd_with_bf16())
    return "bf16" if fast else "fp32"


def is_amd_with_bf16() -> bool:
    """Return True on an AMD CPU with instructions for bf16 products."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16")) and _vendor() == "AuthenticAMD"


def dtype(compute: Compute) -> str:
    """Return the name of the torch dtype that models are loaded in for scoring and generation."""
    return {"fp32": "float32", "bf16": "bfloat16"}[precision(compute)]


class Placement(TypedDict):
    """Keywords of `tasks.io.weights.checkpoints.load` and `tasks.io.weights.models.load`."""

    dtype: str
    device: str


def placement(compute: Compute) -> Placement:
    """Return the precision and the device to load a model with for scoring and generation."""
    return {"dtype": dtype(compute), "device": compute.device}


def autocast(compute: Compute) -> AbstractContextManager[None]:
    """Return a context of mixed precision if `compute` asks for bf16, else one that does nothing."""
    return torch.autocast(compute.device, torch.bfloat16, enabled=precision(compute) == "bf16")


def processes() -> int:
    """Return the number of processes that share this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@cache
def _vendor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "unknown")
