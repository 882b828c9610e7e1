"""Decide which stage begins next, and allocate the machine so that stages never take more together than it has."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from flows.execution.resources import Machine, Request


class Scheduler:
    """Allocates the machine to stages. The next stage is the ready one with the longest chain of stages behind it.

    Thus training, for which most of the graph waits, comes before the measuring of models that exist already. A stage is ready as soon as
    the last stage that it reads from is done, even though its own thread requests the allocation a little later. No stage overtakes the
    next one: otherwise a large stage could wait without end behind small ones. Each host has a queue of its own, and runs one stage at a
    time; a Ray cluster is given all ready stages, as it has a queue itself.
    """

    def __init__(
        self, available: Machine, upstream: Mapping[str, Iterable[str]], requests: Mapping[str, Request]
    ) -> None:
        """`upstream` maps each stage to the stages it reads from, which come before it in the order."""
        self._cores, self._memory_gb, self._gpus = available.cores, available.memory_gb, list(available.gpus)
        self._requests = requests
        self._upstream = {stage: frozenset(before) for stage, before in upstream.items()}
        self._order = sorted(upstream, key=_followers(self._upstream).__getitem__, reverse=True)
        self._busy_hosts: set[str] = set()
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def allocation(self, stage: str) -> Iterator[Sequence[str]]:
        """Wait until the stage is next and its request fits, and hold the allocation. Yields the names of its GPUs.

        A stage that is retried may call it again.
        """
        request = self._requests[stage]
        with self._changed:
            self._begun.discard(stage)
            self._changed.wait_for(lambda: stage == self._next(request.host) and self._fits(request))
            self._begun.add(stage)
            gpus = [self._gpus.pop(0) for _ in range(request.gpus)]
            self._take(request, 1)
        try:
            yield gpus
        finally:
            with self._changed:
                self._gpus += gpus
                self._take(request, -1)

    def host(self, stage: str) -> str | None:
        """Return the host that runs a stage; None for this machine."""
        return self._requests[stage].host

    def done(self, stage: str) -> None:
        """Let the stages that read from this one begin. Called while the stage still holds its allocation, so that none is given to others
        before."""
        with self._changed:
            self._begun.add(stage)
            self._done.add(stage)
            self._changed.notify_all()

    def _take(self, request: Request, times: int) -> None:
        self._cores -= times * request.cores
        self._memory_gb -= times * request.memory_gb
        if request.host:
            (self._busy_hosts.add if times > 0 else self._busy_hosts.discard)(request.host)
        self._changed.notify_all()

    def _fits(self, request: Request) -> bool:
        if request.host:
            return request.is_of_cluster or request.host not in self._busy_hosts
        memory = request.memory_gb <= self._memory_gb + 1e-6  # tolerance: requests may add up to all memory
        return request.cores <= self._cores and memory and request.gpus <= len(self._gpus)

    def _next(self, host: str | None) -> str | None:
        """Return the next stage of a host; of this machine if `host` is None. A stage that reads from a failed stage is never ready."""
        of_host = (stage for stage in self._order if self._requests[stage].host == host)
        ready = (s for s in of_host if s not in self._begun and self._upstream[s] <= self._done)
        return next(ready, None)


def _followers(upstream: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return the length of the longest chain of stages behind each stage."""
    count = dict.fromkeys(upstream, 0)
    for stage in reversed(list(upstream)):
        for before in upstream[stage]:
            count[before] = max(count[before], count[stage] + 1)
    return count
