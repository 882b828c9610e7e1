"""Measure the speed of this machine once, by `tasks.machine_speed`, and remember it in the user's cache folder.

It enters no output: it only serves the estimates of `ratchet plan` before the first run.
"""

import os
import platform
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from flows.execution.cost import remembered
from tasks.core.compute import Compute
from tasks.core.speed import Pace, Speed
from tasks.io import provenance

PATIENCE_S = 180
"""Seconds after which a measurement counts as failed: a busy machine takes a minute for what an idle one does in ten seconds."""
SCALES = 0.9
"""Assumed share of a process's speed that is left if several processes share a step, as on GPUs (`gpu_plan`)."""
CPUINFO = Path("/proc/cpuinfo")


def of(compute: Compute) -> Speed | None:
    """Return the speed at this precision and number of threads, measured if it is not known yet; None if that fails.

    A measurement takes some seconds, and is announced on stderr.
    """
    return remembered.get(cache_file(), machine_key(compute), _speed, partial(_measure, compute))


def shared(speed: Speed, compute: Compute, nodes: int = 1) -> Speed:
    """Return the joint speed of processes that share a training on machines like this one; each process counted has cores of its own."""
    here = max(1, compute.processes // nodes)
    at_once = nodes * min(here, max(1, _cores() // compute.threads))
    if at_once == 1:
        return speed
    factor = SCALES * at_once
    narrow, wide = (
        replace(pace, read_ops_per_s=factor * pace.read_ops_per_s, train_ops_per_s=factor * pace.train_ops_per_s)
        for pace in (speed.narrow, speed.wide)
    )
    return replace(speed, narrow=narrow, wide=wide)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_file() -> Path:
    """Return the file that remembers speeds by machine."""
    return remembered.cache_file("machine_speed.json")


def machine_key(compute: Compute) -> str:
    """Return the facts that a speed depends on: processor, cores, versions of torch and transformers, precision and threads."""
    facts = provenance.machine_class()
    return " · ".join(
        [
            _processor(),
            facts["processor"],
            f"{_cores()} cores",
            f"torch {facts['torch']}",
            f"transformers {facts['transformers']}",
            compute.precision,
            f"{compute.threads} threads",
        ]
    )


def _processor() -> str:
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _measure(compute: Compute) -> remembered.Values | None:
    sys.stderr.write("Measuring how fast this machine computes, once …\n")
    sys.stderr.flush()
    return remembered.printed("tasks.machine_speed", compute.precision, str(compute.threads), patience_s=PATIENCE_S)


def _speed(values: remembered.Values) -> Speed:
    return Speed(**values | {name: Pace(**values[name]) for name in ("narrow", "wide")})
