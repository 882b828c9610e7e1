"""Sample the usage of a process and its machine, under the names of MLflow's system metrics, which MLflow's pages show on a separate tab."""

import contextlib
import itertools
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil

from tasks.io.system import timer

EVERY_S = 10.0
"""Seconds between two samples, as in MLflow's own monitor."""
MB = 2**20
GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")


class Sampler:
    """Samples a process with its children, and the machine."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._network = _traffic()
        self._seconds, self._at = self._cpu_seconds(), time.monotonic()
        psutil.cpu_percent()  # the first call only sets the reference

    def sample(self) -> dict[str, float]:
        """Return the usage since the previous sample, in per cent, MB and watts."""
        memory, seconds, at = psutil.virtual_memory(), self._cpu_seconds(), time.monotonic()
        received, sent = (now - before for now, before in zip(_traffic(), self._network, strict=True))
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "process_cores": max(0.0, seconds - self._seconds) / (at - self._at),
            "process_memory_usage_megabytes": self._memory() / MB,
            "system_memory_usage_megabytes": memory.used / MB,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_percentage": psutil.disk_usage(".").percent,
            "network_receive_megabytes": received / MB,
            "network_transmit_megabytes": sent / MB,
        }
        self._seconds, self._at = seconds, at
        return {f"system/{name}": value for name, value in (values | gpus()).items()}

    def _family(self) -> Iterator[psutil.Process]:
        yield self._process
        yield from self._process.children(recursive=True)

    def _cpu_seconds(self) -> float:
        total = 0.0
        for process in self._family():
            with contextlib.suppress(psutil.Error):  # it has just ended
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _memory(self) -> int:
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


def peak_memory_mb() -> float:
    """Return the peak memory of this process so far, in MB. Linux reports KiB, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak / 1024


def _traffic() -> tuple[int, int]:
    """Return the bytes received and sent since the machine started; 0 in a container without a network."""
    counters = psutil.net_io_counters()
    return (counters.bytes_recv, counters.bytes_sent) if counters else (0, 0)


def gpus() -> dict[str, float]:
    """Return utilisation, memory and power of each NVIDIA GPU, by its number; none without a driver."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=EVERY_S).stdout
    except (OSError, subprocess.SubprocessError):  # a driver without a device, or one that hangs
        return {}
    return {name: value for line in table.splitlines() for name, value in _gpu(line).items()}


def _gpu(line: str) -> Mapping[str, float]:
    index, *cells = (cell.strip() for cell in line.split(","))
    busy, used, total, power = (_number(cell) for cell in cells)
    values = {
        "utilization_percentage": busy,
        "memory_usage_megabytes": used,
        "memory_usage_percentage": 100 * used / total if used is not None and total else None,
        "power_usage_watts": power,
    }
    return {f"gpu_{index}_{name}": value for name, value in values.items() if value is not None}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:  # `[N/A]`: this GPU does not report it
        return None


@contextmanager
def watched(log: Callable[[int, Mapping[str, float]], None], every_s: float = EVERY_S) -> Iterator[None]:
    """While the block runs, call `log` from a thread with the number and the values of each sample. A short block has no sample."""
    sampler, numbers = Sampler(), itertools.count()
    with timer.every(every_s, lambda: log(next(numbers), sampler.sample()), "system-metrics"):
        yield
