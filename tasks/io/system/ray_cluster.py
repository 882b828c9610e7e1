"""Apply functions to many items on a running Ray cluster. Each result comes once, in the order of the items or as they end.

Ray runs the tasks of a lost node again. Use only a cluster of your own, because Ray runs any code that reaches its ports. Functions and items
are sent by pickle.
"""

import importlib
import os
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from tasks.core import environment

T = TypeVar("T")
R = TypeVar("R")
GB = 1e9
AHEAD = 3
"""Number of items in transit to each processor of the cluster, or of their results from it. The first may be one that must be run again."""
RETRIES = 3
"""How often Ray runs a task again after its node or process was lost."""
LOOK_S = 1.0
"""Seconds without a result after which the cluster is checked."""
ANSWER_S = 5.0
"""Seconds within which the cluster's server must answer."""
PATIENCE_S = 60.0
"""Seconds for which a cluster may have no processor, or no node that is large enough, for example while its nodes restart."""
MISSING = re.compile(r"No module named '([^']+)'")
"""Matches Python's message about a missing module on a node, within Ray's error."""
EXTRA = "`pip install 'ratchet-llm[ray]'`"


@dataclass(frozen=True)
class NamedBy:
    """The setting that names a cluster, for messages."""

    setting: str
    instead: str
    """The remedy by which this machine works in place of the cluster."""


ENVIRONMENT = NamedBy(environment.RAY, f"unset {environment.RAY} to use this machine")


def address() -> str | None:
    """Return the address of the cluster in the environment: `HOST:PORT`, or `auto` for the one on this machine; None without one."""
    return os.environ.get(environment.RAY) or None


@dataclass(frozen=True)
class Needs:
    """The resources that a task needs on a node."""

    cores: int = 1
    memory_gb: float = 0.0
    gpus: int = 0

    def __str__(self) -> str:
        parts = (
            f"{self.cores} cores",
            f"{self.memory_gb:g} GB of memory" if self.memory_gb else "",
            f"{self.gpus} GPUs" if self.gpus else "",
        )
        return ", ".join(part for part in parts if part)

    def is_met_by(self, node: Mapping[str, float]) -> bool:
        """Return True if a node with these resources (Ray's names) could ever run the task."""
        needed = {"CPU": self.cores, "memory": self.memory_gb * GB, "GPU": self.gpus}
        return all(node.get(name, 0) >= number for name, number in needed.items())


ONE = Needs()
"""One core."""


class Cluster:
    """A cluster of which this process is a client."""

    def __init__(self, ray: ModuleType, address: str, named_by: NamedBy = ENVIRONMENT) -> None:
        self._ray, self._address, self._named_by = ray, address, named_by
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_call)

    def apply(self, function: Callable[[T], R], items: Iterable[T], needs: Needs = ONE) -> Iterator[R]:
        """Yield the result of `function` for each item. Each item needs the resources `needs` on a node.

        An error of the function is raised unchanged. Raises RuntimeError, with a remedy, if the cluster is lost or no node has the resources.
        """
        watch, shared = self._watch(), self._put(function)
        watch.check(needs)
        task = self._task.options(**_options(needs))
        pending, remaining = deque[Any](), iter(items)
        while True:
            room = max(1, AHEAD * watch.num_processors({needs}) // needs.cores) - len(pending)
            with self._room_in_store():
                pending.extend(task.remote(shared, item) for item in islice(remaining, max(0, room)))
            if not pending:
                return
            if self._ray.wait([pending[0]], timeout=LOOK_S)[0]:
                yield self._result(pending.popleft())

    def as_they_end(self, function: Callable[[T], R], items: Sequence[tuple[T, Needs]]) -> Generator[tuple[int, R]]:
        """Yield the number of each item and its result as soon as it is available. When the generator is closed, running tasks are ended.

        Raises like `apply`, and RuntimeError if no node has the resources for an item.
        """
        watch, shared = self._watch(), self._put(function)
        numbers: dict[Any, int] = {}
        try:
            for number, (item, needs) in enumerate(items):
                watch.check(needs)
                with self._room_in_store():
                    numbers[self._task.options(**_options(needs)).remote(shared, item)] = number
            while numbers:
                watch.num_processors({items[number][1] for number in numbers.values()})
                for reference in self._ray.wait(list(numbers), num_returns=1, timeout=LOOK_S)[0]:
                    result = self._result(reference)
                    yield numbers.pop(reference), result
        finally:
            for reference in numbers:
                self._ray.cancel(reference, force=True)

    @property
    def own_address(self) -> str:
        """Return the address at which the nodes reach this machine."""
        return str(self._ray.util.get_node_ip_address())

    def node(self, needs: Needs, address: str | None = None) -> str | None:
        """Return the id of a node that could run a task with these needs, at this address if one is given; None without such a node.

        Raises RuntimeError, with the nodes' resources, if there are nodes and none of them could.
        """
        self._watch().check(needs)
        suits = (
            node["NodeID"]
            for node in self._ray.nodes()
            if node["Alive"] and needs.is_met_by(node["Resources"]) and address in (None, node["NodeManagerAddress"])
        )
        return next(suits, None)

    @contextmanager
    def task(
        self, function: Callable[..., object], arguments: Iterable[object], needs: Needs, node: str | None = None
    ) -> Iterator["Task"]:
        """Begin one task, which Ray never runs again, and kill it at the end of the block. It waits for the named node as long as that exists.

        The function is sent with the code of its module, so that nodes need not have it.
        """
        self._ray.cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
        options = _options(needs) | {"max_retries": 0}
        if node:
            strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
            options["scheduling_strategy"] = strategy(node, soft=True)
        reference = self._ray.remote(**options)(function).remote(*arguments)
        task = Task(self._ray, reference, self._watch(), needs)
        try:
            yield task
        finally:
            if not task.is_over():
                self._ray.cancel(reference, force=True)

    def _watch(self) -> "_Watch":
        return _Watch(self._ray, self._address, self._named_by)

    def _put(self, function: Callable[..., object]) -> Any:
        with self._room_in_store():
            return self._ray.put(function)

    @contextmanager
    def _room_in_store(self) -> Iterator[None]:
        """Raise RuntimeError, with a remedy, if data sent in the block do not fit the object store of this machine's node."""
        errors = self._ray.exceptions
        try:
            yield
        except (errors.ObjectStoreFullError, errors.OutOfDiskError) as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"The object store of the Ray cluster {self._address} is full ({reason}). Start its nodes with more "
                f"(`ray start --object-store-memory`), free its disk, or {self._named_by.instead}."
            ) from None

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            of_ray = isinstance(error.cause, errors.RayError) or "failed to import" in str(error.cause)
            if of_ray and MISSING.search(str(error.cause)):
                raise self._lacks(error.cause) from None
            raise error.cause from None
        except errors.RayError as error:
            if MISSING.search(str(error)):
                raise self._lacks(error) from None
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"The Ray cluster {self._address} lost a task {RETRIES + 1} times ({reason}). {_again(self._named_by)}"
            ) from None

    def _lacks(self, error: BaseException) -> RuntimeError:
        """Return the message about a node that could not import the code it was sent."""
        module = "".join(MISSING.findall(str(error))[:1])
        return RuntimeError(
            f"A node of the Ray cluster {self._address} lacks the module {module}. Install the same on every node, with "
            f"`constraints.txt`, or {self._named_by.instead}."
        )


class Task:
    """One task that was submitted to a cluster."""

    def __init__(self, ray: ModuleType, reference: Any, watch: "_Watch", needs: Needs) -> None:
        self._ray, self._reference, self._watch, self._needs = ray, reference, watch, needs

    def is_over(self, within_s: float = 0.0) -> bool:
        """Return True if it has ended, or ends within `within_s` seconds."""
        return bool(self._ray.wait([self._reference], timeout=within_s)[0])

    def check(self) -> None:
        """Raise RuntimeError if the cluster is lost, or has had no node that could run it for some time."""
        self._watch.num_processors({self._needs})

    def result(self) -> Any:
        """Return the result of a finished task. Raises RuntimeError, with the reason in one sentence, if it failed or was lost."""
        try:
            return self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(str(error.cause)) from None
        except self._ray.exceptions.RayError as error:
            raise RuntimeError(str(error).strip().splitlines()[0].partition(". ")[0]) from None


def _again(named_by: NamedBy) -> str:
    return f"What was done is kept: run it again when the cluster is back, or {named_by.instead}."


def _options(needs: Needs) -> dict[str, Any]:
    return {"num_cpus": needs.cores, "num_gpus": needs.gpus, "memory": int(needs.memory_gb * GB) or None}


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


def _problem(server: str) -> str:
    """Return the reason why no server answers at HOST:PORT; empty if one does."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        return "HOST:PORT is wanted"
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:  # the latter for an invalid host name
        return str(error)
    return ""


class _Watch:
    """Checks that the cluster is reachable and has processors."""

    def __init__(self, ray: ModuleType, cluster: str, named_by: NamedBy = ENVIRONMENT) -> None:
        self._ray, self._cluster, self._named_by = ray, cluster, named_by
        self._server = ray.get_runtime_context().gcs_address
        self._last_seen = time.monotonic()

    def num_processors(self, needs: Collection[Needs] = ()) -> int:
        """Return the number of processors. Raises RuntimeError if there has been none for some time, or no node with the resources of the tasks."""
        if problem := _problem(self._server):  # Ray itself would end this process if its server stayed unreachable
            raise RuntimeError(f"The Ray cluster {self._cluster} is lost ({problem}). {_again(self._named_by)}")
        nodes = self._nodes()
        number = int(sum(node.get("CPU", 0) for node in nodes))
        if number and all(any(each.is_met_by(node) for node in nodes) for each in needs):
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > PATIENCE_S:
            for each in needs:
                self.check(each)
            raise RuntimeError(
                f"The Ray cluster {self._cluster} has no node left that could work. {_again(self._named_by)}"
            )
        return number

    def check(self, needs: Needs) -> None:
        """Raise RuntimeError if there are nodes, but none of them could ever run a task with these needs."""
        nodes = [node for node in self._nodes() if node.get("CPU")]
        if nodes and not any(needs.is_met_by(node) for node in nodes):
            there = "; ".join(
                str(Needs(int(node["CPU"]), round(node.get("memory", 0) / GB, 1), int(node.get("GPU", 0))))
                for node in nodes
            )
            raise RuntimeError(
                f"No node of the Ray cluster {self._cluster} has {needs}, which a task takes. Its nodes have: {there}. `resources` and "
                f"`compute` in params.yaml say what it takes; start larger nodes, or {self._named_by.instead}."
            )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


def _ray(cluster: str, named_by: NamedBy) -> ModuleType:
    environment.set_defaults(environment.NO_TELEMETRY | environment.RAY_OPTIONS)
    if cluster.startswith(("127.", "localhost:")):
        environment.set_defaults(environment.RAY_LOOPBACK)
    try:
        import ray
    except ModuleNotFoundError:
        raise RuntimeError(
            f"{named_by.setting} is {cluster}, which needs Ray: {EXTRA}, or {named_by.instead}."
        ) from None
    module: ModuleType = ray
    return module


@contextmanager
def connected(address: str, named_by: NamedBy = ENVIRONMENT) -> Iterator[Cluster]:
    """Be a client of a cluster during the block. The SIGTERM handler of this process is kept.

    Raises RuntimeError, with a remedy, without Ray, without a cluster at this address, and for one with another version of Ray or Python.
    """
    ray = _ray(address, named_by)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, address, named_by)
        with suppress(ValueError):  # not in the main thread, where Ray does not change signals either
            signal.signal(signal.SIGTERM, terminate)
        yield Cluster(ray, address, named_by)
    finally:
        ray.shutdown()  # also after a refusal, because Ray would stay partly connected


def _connect(ray: Any, address: str, named_by: NamedBy) -> None:
    """Connect to the cluster. Raises RuntimeError like `connected`."""
    try:
        if address != "auto" and (problem := _problem(address)):
            raise ConnectionError(problem)
        ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except ConnectionError as error:
        reason = str(error).strip().splitlines()[0]
        raise RuntimeError(
            f"No Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, correct {named_by.setting}, or "
            f"{named_by.instead}."
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        lines = " ".join(str(error).split())
        raise RuntimeError(
            f"The Ray cluster {address} has another Ray or Python than this machine ({lines}). Install both on every node with "
            f"`constraints.txt`, or {named_by.instead}."
        ) from None
