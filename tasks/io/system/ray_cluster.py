"""Apply a function to many items on a Ray cluster that runs already: each result comes once, with the place of its item.

Tasks that a lost node had are run again by Ray. Results come in any order, so whoever needs one places them by their number. The
cluster must be one's own: Ray runs whatever reaches its ports. Functions and items travel by pickle, as Ray has it.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from tasks.core import environment

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2
"""Items that are on their way to each processor of the cluster, or their results from it."""
RETRIES = 3
"""Times that Ray runs a task again whose node or process was lost."""
LOOK_S = 1.0
"""Seconds without a result after which the cluster is looked at."""
ANSWER_S = 5.0
"""Seconds in which the cluster's server has to answer."""
PATIENCE_S = 60.0
"""Seconds that a cluster may be without any processor, as while its nodes are restarted."""
EXTRA = "`pip install 'ratchet-llm[ray]'`"
AGAIN = "What was done is kept: run it again when the cluster is back, or without RATCHET_RAY on this machine."


def address() -> str | None:
    """Return the address of the cluster that the environment names: `HOST:PORT`, or `auto` for the one of this machine; None without one."""
    return os.environ.get(environment.RAY) or None


def apply(cluster: str, function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R]]:
    """Yield the number of each item and the result of `function` for it, in the order in which they come.

    An error of the function is raised as it is. Raises RuntimeError, with what to do, without Ray, without a cluster at this address, and
    if the cluster is lost or has no processor left.
    """
    ray = _ray(cluster)
    with _connected(ray, cluster):
        task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(function)
        watch = _Watch(ray, cluster)
        numbered = iter(enumerate(items))
        pending: dict[Any, int] = {}
        while True:
            room = max(1, AHEAD * watch.num_processors()) - len(pending)
            pending |= {task.remote(item): number for number, item in islice(numbered, max(0, room))}
            if not pending:
                return
            done, _ = ray.wait(list(pending), timeout=LOOK_S)
            for reference in done:
                yield pending.pop(reference), _result(ray, cluster, reference)


def _result(ray: ModuleType, cluster: str, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise RuntimeError(f"The Ray cluster {cluster} lost a task {RETRIES + 1} times ({reason}). {AGAIN}") from None


def _problem(server: str) -> str:
    """Return the reason why nobody answers at HOST:PORT; empty if somebody does."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


class _Watch:
    """Looks whether the cluster is there and has processors."""

    def __init__(self, ray: ModuleType, cluster: str) -> None:
        self._ray, self._cluster = ray, cluster
        self._server = ray.get_runtime_context().gcs_address
        self._last_seen = time.monotonic()

    def num_processors(self) -> int:
        """Return the number of processors. Raises RuntimeError if there has been none for some time."""
        if problem := _problem(self._server):  # Ray itself would end this process if its server stayed away
            raise RuntimeError(f"The Ray cluster {self._cluster} is lost ({problem}). {AGAIN}")
        number = int(sum(node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]))
        if number:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > PATIENCE_S:
            raise RuntimeError(f"The Ray cluster {self._cluster} has no node left that could work. {AGAIN}")
        return number


def _ray(cluster: str) -> ModuleType:
    environment.set_defaults(environment.NO_TELEMETRY | environment.RAY_OPTIONS)
    if cluster.startswith(("127.", "localhost:")):
        environment.set_defaults(environment.RAY_LOOPBACK)
    try:
        import ray
    except ModuleNotFoundError:
        raise RuntimeError(
            f"{environment.RAY}={address()} needs Ray: {EXTRA}, or unset it to use this machine."
        ) from None
    module: ModuleType = ray
    return module


@contextmanager
def _connected(ray: ModuleType, cluster: str) -> Iterator[None]:
    """Be a client of a cluster for a while. What this process does on SIGTERM stays as it was."""
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        if cluster != "auto" and (problem := _problem(cluster)):
            raise ConnectionError(problem)
        ray.init(cluster, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except ConnectionError as error:
        reason = str(error).strip().splitlines()[0]
        raise RuntimeError(
            f"No Ray cluster answers at {cluster} ({reason}). Start one with `ray start --head`, correct {environment.RAY}, or unset it "
            "to use this machine."
        ) from None
    try:
        with suppress(ValueError):  # not in the main thread, where Ray leaves signals alone too
            signal.signal(signal.SIGTERM, terminate)
        yield
    finally:
        ray.shutdown()
