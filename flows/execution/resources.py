"""Determine the machine's cores, memory and GPUs, and what each stage requests of them."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.execution.elsewhere import hosts
from tasks import configuration
from tasks.configuration import PipelineConfig
from tasks.core import environment
from tasks.core.operation import Resources
from tasks.io.system.ray_cluster import Needs

GB = 1e9
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Machine:
    """The resources that all stages may take together."""

    cores: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    """The names of the GPUs, as in `CUDA_VISIBLE_DEVICES`."""


@dataclass(frozen=True)
class Request:
    """The resources that one stage takes while it runs."""

    cores: int = 1
    memory_gb: float = 0.0
    gpus: int = 0
    host: str | None = None
    """The host that runs the stage, which then takes nothing of this machine."""
    is_of_cluster: bool = False
    """True if that host is a Ray cluster, which schedules stages itself."""


def machine() -> Machine:
    """Return the cores, memory and GPUs that stages may take: those of this machine, lowered by RATCHET_CORES, RATCHET_MEMORY_GB
    and RATCHET_GPUS. Raises ValueError if one of them is not a number."""
    gpus = _gpus()
    return Machine(
        cores=int(_lowered(environment.CORES, _cores(), least=1)),
        memory_gb=_lowered(environment.MEMORY_GB, _memory() / GB, least=0.1),
        gpus=gpus[: int(_lowered(environment.GPUS, len(gpus), least=0))],
    )


def requests(stages: Iterable[str], config: PipelineConfig, available: Machine) -> dict[str, Request]:
    """Return what each stage requests, according to `resources` of the config. Raises ValueError if a stage requests more than is
    available."""
    by_stage = {stage: _request(stage.partition("@")[0], config, available) for stage in stages}
    for stage, request in by_stage.items():
        for resource, requested, limit in (
            ("memory_gb", request.memory_gb, available.memory_gb),
            ("gpus", request.gpus, len(available.gpus)),
        ):
            if requested > limit:
                raise ValueError(
                    f"Stage {stage} takes {requested:g} of {resource}, and this machine has {limit:g}. Lower the request in `resources` of "
                    f"params.yaml, or raise RATCHET_{resource.upper()} if it is set."
                )
    return by_stage


def needs(stage: str, config: PipelineConfig) -> Needs:
    """Return what a stage takes of the machine that runs it: as `resources` says, otherwise the cores and GPUs that it computes with."""
    declared = config.resources.get(stage, Resources())
    computes = stage in configuration.stage_names() and "compute" in configuration.stage_config_type(stage).model_fields
    compute = config.compute
    processes = compute.processes // declared.nodes
    gpus = processes if computes and compute.device == "cuda" else 0
    return Needs(
        cores=declared.cores or (compute.threads * processes if computes else 1),
        memory_gb=declared.memory_gb or 0.0,
        gpus=gpus if declared.gpus is None else declared.gpus,
    )


def _request(stage: str, config: PipelineConfig, available: Machine) -> Request:
    declared = config.resources.get(stage, Resources())
    if declared.host:
        host = hosts.known().get(declared.host)
        return Request(cores=0, host=declared.host, is_of_cluster=bool(host and host.ray))
    needed = needs(stage, config)
    cores = min(needed.cores, available.cores)  # more threads than cores are slow, but no reason not to run
    memory_gb = needed.memory_gb or available.memory_gb * cores / available.cores
    return Request(cores, memory_gb, needed.gpus)


def _lowered(name: str, available: float, *, least: float) -> float:
    """Return the number in an environment variable, at most `available`; `available` if the variable is not set."""
    text = os.environ.get(name)
    if text is None:
        return available
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < least:
        raise ValueError(f"{name}={text}: expected a number, {least:g} or more: the most that stages use at once.")
    return min(value, available)


def _cores() -> int:
    """Return the number of cores that this process may use, limited by its affinity and by the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (CGROUP_CPU.read_text().strip() if CGROUP_CPU.is_file() else "max").partition(" ")
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdecimal() else cores


def _memory() -> float:
    """Return the bytes of memory that this process may use: the machine's, or the limit of its container."""
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.is_file() else "max"
    total = float(psutil.virtual_memory().total)
    return min(total, float(limit)) if limit.isdecimal() else total


def _gpus() -> tuple[str, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return tuple(name for name in names if name and not name.startswith("-"))  # -1 commonly means no GPU
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
