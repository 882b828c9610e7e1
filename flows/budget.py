"""What of the machine each stage takes, which one begins next, and that together they never take more than there is."""

import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tasks import settings
from tasks.core import environment
from tasks.core.resources import Resources

GB = 1e9
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Machine:
    """What stages may take together."""

    cores: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    """Their names, as `CUDA_VISIBLE_DEVICES` has them."""


@dataclass(frozen=True)
class Need:
    """What one stage takes while it works."""

    cores: int = 1
    memory_gb: float = 0.0
    gpus: int = 0


def machine() -> Machine:
    """What this machine has, or less where RATCHET_CORES, RATCHET_MEMORY_GB or RATCHET_GPUS say so. Raises ValueError for no number."""
    gpus = _gpus()
    return Machine(
        cores=int(_given(environment.CORES, _cores(), least=1)),
        memory_gb=_given(environment.MEMORY_GB, _memory() / GB, least=0.1),
        gpus=gpus[: int(_given(environment.GPUS, len(gpus), least=0))],
    )


def needs(stages: Iterable[str], everything: Any, there: Machine) -> dict[str, Need]:
    """What each stage takes, by `resources` of the settings. Raises ValueError where one asks for what the machine does not have."""
    found = {stage: _need(stage.partition("@")[0], everything, there) for stage in stages}
    for stage, need in found.items():
        for what, asked, has in (
            ("memory_gb", need.memory_gb, there.memory_gb),
            ("gpus", need.gpus, len(there.gpus)),
        ):
            if asked > has:
                raise ValueError(
                    f"Stage {stage} takes {asked:g} of {what}, and this machine has {has:g}. `resources` in params.yaml says "
                    f"what it takes, RATCHET_{what.upper()} what there is."
                )
    return found


def _need(stage: str, everything: Any, there: Machine) -> Need:
    asked: Resources = everything.resources.get(stage, Resources())
    computes = stage in settings.stage_names() and "compute" in settings.settings_type(stage).model_fields
    compute = everything.compute
    cores = asked.cores or (compute.threads * compute.processes if computes else 1)
    cores = min(cores, there.cores)  # more threads than cores is slow, and no reason not to run
    gpus = compute.processes if computes and compute.device == "cuda" else 0
    return Need(
        cores=cores,
        memory_gb=there.memory_gb * cores / there.cores if asked.memory_gb is None else asked.memory_gb,
        gpus=gpus if asked.gpus is None else asked.gpus,
    )


class Budget:
    """Lets stages begin as far as the machine goes. Whose turn it is: the one with the longest chain of others behind it.

    So training, which most of the graph waits for, comes before the measuring of models that are there already. A stage counts
    from the moment when the last that it reads from is done, though its own thread asks a little later. None passes the one whose
    turn it is: a large stage would wait for ever behind small ones.
    """

    def __init__(self, there: Machine, upstream: Mapping[str, Iterable[str]], needs: Mapping[str, Need]) -> None:
        """`upstream` maps each stage to those it reads from, which stand before it."""
        self._cores, self._memory_gb, self._gpus = there.cores, there.memory_gb, list(there.gpus)
        self._needs = needs
        self._upstream = {stage: frozenset(before) for stage, before in upstream.items()}
        self._order = sorted(upstream, key=_followers(self._upstream).__getitem__, reverse=True)
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def share(self, stage: str) -> Iterator[Sequence[str]]:
        """What the stage takes, when it is its turn and as much is free, given back at the end: the names of its GPUs.

        It may be asked for again.
        """
        need = self._needs[stage]
        with self._changed:
            self._begun.discard(stage)
            self._changed.wait_for(lambda: stage == self._next() and self._fits(need))
            self._begun.add(stage)
            gpus = [self._gpus.pop(0) for _ in range(need.gpus)]
            self._take(need, 1)
        try:
            yield gpus
        finally:
            with self._changed:
                self._gpus += gpus
                self._take(need, -1)

    def done(self, stage: str) -> None:
        """What reads from the stage can begin. Said while it has its share, before others are given it."""
        with self._changed:
            self._begun.add(stage)
            self._done.add(stage)
            self._changed.notify_all()

    def _take(self, need: Need, times: int) -> None:
        self._cores -= times * need.cores
        self._memory_gb -= times * need.memory_gb
        self._changed.notify_all()

    def _fits(self, need: Need) -> bool:
        memory = need.memory_gb <= self._memory_gb + 1e-6  # shares that add up to the whole, but for rounding
        return need.cores <= self._cores and memory and need.gpus <= len(self._gpus)

    def _next(self) -> str | None:
        """The stage whose turn it is. What reads from one that failed is never ready."""
        ready = (s for s in self._order if s not in self._begun and self._upstream[s] <= self._done)
        return next(ready, None)


def _followers(upstream: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """How many stages come after each, one behind the other."""
    count = dict.fromkeys(upstream, 0)
    for stage in reversed(list(upstream)):
        for before in upstream[stage]:
            count[before] = max(count[before], count[stage] + 1)
    return count


def _given(name: str, there: float, *, least: float) -> float:
    """The number in an environment variable, at most what is there."""
    text = os.environ.get(name)
    if text is None:
        return there
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value < least:
        raise ValueError(f"{name}={text}: expected a number, {least:g} or more, of what stages may take together.")
    return min(value, there)


def _cores() -> int:
    """The cores that this process may use, or as many as the container has the time of."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = (CGROUP_CPU.read_text().strip() if CGROUP_CPU.is_file() else "max").partition(" ")
    return min(cores, math.ceil(int(quota) / int(period))) if quota.isdecimal() else cores


def _memory() -> float:
    """The machine's memory in bytes, or what the container may use of it."""
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.is_file() else "max"
    total = float(psutil.virtual_memory().total)
    return min(total, float(limit)) if limit.isdecimal() else total


def _gpus() -> tuple[str, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return tuple(name for name in names if name and not name.startswith("-"))  # -1 is how people say: none
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
