"""Apply functions to many items on a Ray cluster that runs already: each result comes once, in the order of the items or as they end.

Tasks that a lost node had are run again by Ray. The cluster must be one's own: Ray runs whatever reaches its ports. Functions and
items travel by pickle, as Ray has it.
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
"""Items that are on their way to each processor of the cluster, or their results from it. The first of them may be one to be run again."""
RETRIES = 3
"""Times that Ray runs a task again whose node or process was lost."""
LOOK_S = 1.0
"""Seconds without a result after which the cluster is looked at."""
ANSWER_S = 5.0
"""Seconds in which the cluster's server has to answer."""
PATIENCE_S = 60.0
"""Seconds that a cluster may be without any processor, or without a node that is large enough, as while its nodes are restarted."""
MISSING = re.compile(r"No module named '([^']+)'")
"""What Python says on a node that lacks a module, within what Ray makes of it."""
EXTRA = "`pip install 'ratchet-llm[ray]'`"


@dataclass(frozen=True)
class NamedBy:
    """The setting that names a cluster, for messages."""

    setting: str
    instead: str
    """What would have this machine work in place of the cluster."""


ENVIRONMENT = NamedBy(environment.RAY, f"unset {environment.RAY} to use this machine")


def address() -> str | None:
    """Return the address of the cluster that the environment names: `HOST:PORT`, or `auto` for the one of this machine; None without one."""
    return os.environ.get(environment.RAY) or None


@dataclass(frozen=True)
class Needs:
    """The resources that a task takes of a node."""

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
        """Return True if a node with these resources, as Ray names them, could ever run the task."""
        needed = {"CPU": self.cores, "memory": self.memory_gb * GB, "GPU": self.gpus}
        return all(node.get(name, 0) >= number for name, number in needed.items())


ONE = Needs()
"""One core."""


class Cluster:
    """A cluster that this process is a client of."""

    def __init__(self, ray: ModuleType, address: str, named_by: NamedBy = ENVIRONMENT) -> None:
        self._ray, self._address, self._named_by = ray, address, named_by
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(_call)

    def apply(self, function: Callable[[T], R], items: Iterable[T], needs: Needs = ONE) -> Iterator[R]:
        """Yield the result of `function` for each item, which takes what it `needs` of a node.

        An error of the function is raised as it is. Raises RuntimeError, with what to do, if the cluster is lost or no node has what is needed.
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
        """Yield the number of each item and its result, as soon as it is there. What is under way when the generator is closed is ended.

        Raises what `apply` raises, and RuntimeError if no node has what an item needs.
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
        """The address at which the nodes reach this machine."""
        return str(self._ray.util.get_node_ip_address())

    def node(self, needs: Needs, address: str | None = None) -> str | None:
        """Return the id of a node that could run a task with these needs, at this address if one is given; None without such a node.

        Raises RuntimeError, with what they have, if nodes are there and none could at any address.
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
        """Begin one task, which Ray never runs again, and end it by force with the block. It waits for the node that is named, while that is there.

        The function travels with the code of its module, so that nodes need not have it.
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
        """Raise RuntimeError, with what to do, where what is sent in the block has no room in the object store of this machine's node."""
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
        """Return what to say of a node that could not import what it was sent."""
        module = "".join(MISSING.findall(str(error))[:1])
        return RuntimeError(
            f"A node of the Ray cluster {self._address} lacks the module {module}. Install the same on every node, with "
            f"`constraints.txt`, or {self._named_by.instead}."
        )


class Task:
    """One task that a cluster was given."""

    def __init__(self, ray: ModuleType, reference: Any, watch: "_Watch", needs: Needs) -> None:
        self._ray, self._reference, self._watch, self._needs = ray, reference, watch, needs

    def is_over(self, within_s: float = 0.0) -> bool:
        """Return True if it has ended, or ends in so many seconds."""
        return bool(self._ray.wait([self._reference], timeout=within_s)[0])

    def look(self) -> None:
        """Raise RuntimeError if the cluster is lost, or has for some time had no node that could run it."""
        self._watch.num_processors({self._needs})

    def result(self) -> Any:
        """Return what the function of a task that is over returned. Raises RuntimeError, with the reason in one sentence, where it failed or was lost."""
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
    """Return the reason why nobody answers at HOST:PORT; empty if somebody does."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        return "HOST:PORT is wanted"
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:  # the latter of a host that is no name
        return str(error)
    return ""


class _Watch:
    """Looks whether the cluster is there and has processors."""

    def __init__(self, ray: ModuleType, cluster: str, named_by: NamedBy = ENVIRONMENT) -> None:
        self._ray, self._cluster, self._named_by = ray, cluster, named_by
        self._server = ray.get_runtime_context().gcs_address
        self._last_seen = time.monotonic()

    def num_processors(self, needs: Collection[Needs] = ()) -> int:
        """Return the number of processors. Raises RuntimeError if for some time there is none, or no node has what tasks need."""
        if problem := _problem(self._server):  # Ray itself would end this process if its server stayed away
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
        """Raise RuntimeError if nodes are there, and none of them could ever run a task that needs so much."""
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
    """Be a client of a cluster for a while. What this process does on SIGTERM stays as it was.

    Raises RuntimeError, with what to do, without Ray, without a cluster at this address, and for one of another Ray or Python.
    """
    ray = _ray(address, named_by)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, address, named_by)
        with suppress(ValueError):  # not in the main thread, where Ray leaves signals alone too
            signal.signal(signal.SIGTERM, terminate)
        yield Cluster(ray, address, named_by)
    finally:
        ray.shutdown()  # after a refusal too: Ray would stay connected in part


def _connect(ray: Any, address: str, named_by: NamedBy) -> None:
    """Raises RuntimeError as `connected` does."""
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
