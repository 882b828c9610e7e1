"""The speed of this machine, measured once by `tasks.machine_speed` and remembered in the user's cache folder.

Nothing of it enters an output: it serves the estimates of `ratchet plan` before the first run.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.speed import Pace, Speed
from tasks.io import provenance
from tasks.io.system import files

PATIENCE_S = 180
"""Seconds after which a measurement counts as failed: a busy machine takes a minute for what an idle one does in ten seconds."""
CPUINFO = Path("/proc/cpuinfo")


def of(compute: Compute) -> Speed | None:
    """Return the speed at this precision and number of threads, measured where it is not known yet; None if that fails.

    A measurement takes some seconds, and says so on stderr.
    """
    key = machine_key(compute)
    known = _read(cache_file())
    if key not in known:
        sys.stderr.write("Measuring how fast this machine computes, once …\n")
        sys.stderr.flush()
        measured = _measure(compute)
        if measured is None:
            return None
        known = _read(cache_file()) | {key: measured}
        _write(known)
    return _speed(known[key])


def cache_file() -> Path:
    """Return the file in the user's cache folder that remembers speeds, by machine."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "ratchet" / "machine_speed.json"


def machine_key(compute: Compute) -> str:
    """Return the facts that a speed depends on: processor, cores, versions of torch and transformers, precision and threads."""
    facts = provenance.machine_class()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return " · ".join(
        [
            _processor(),
            facts["processor"],
            f"{cores} cores",
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


def _measure(compute: Compute) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "tasks.machine_speed", compute.precision, str(compute.threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        measured: dict[str, Any] = json.loads(done.stdout)
        _speed(measured)
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    return measured


def _speed(values: dict[str, Any]) -> Speed:
    return Speed(**values | {name: Pace(**values[name]) for name in ("narrow", "wide")})


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the speeds in a file by machine, without those that are of an earlier form."""
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    return {key: values for key, values in known.items() if _is_valid(values)}


def _is_valid(values: Any) -> bool:
    try:
        _speed(values)
    except (TypeError, KeyError):
        return False
    return True


def _write(known: dict[str, dict[str, Any]]) -> None:
    """Remember speeds; a cache folder that cannot be written costs a measurement each time."""
    path = cache_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, json.dumps(known, indent=1) + "\n", concurrent=True)
    except OSError:
        return
