"""Apply functions to many items in this process, in others of this machine, or on the Ray cluster that the environment names.

Results come in the order of the items, and do not depend on where they are computed.
"""

import multiprocessing
import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from tasks.io import provenance
from tasks.io.system import process, ray_cluster
from tasks.io.system.ray_cluster import ONE, Needs

T = TypeVar("T")
R = TypeVar("R")
WORTH = 8
"""Number of items from which on it is worth starting a process or using a cluster, which takes seconds."""
READERS = ("charset-normalizer", "fastexcel", "mammoth", "phonenumberslite", "py3langid", "pypdf")
"""Distributions with which a node reads files and examines texts. Another version may produce other rows."""
AHEAD = 2
"""Number of items in transit to each process, or of their results from it."""


class Workers:
    """Processes of this machine, or a cluster. They start when there is enough work, and end with the `with` block."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None
        self._cluster: ray_cluster.Cluster | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def uses_cluster(self, number: int) -> bool:
        """Return True if a cluster works on this number of items. Its nodes have access only to the workspace."""
        return ray_cluster.address() is not None and number >= WORTH

    def apply(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        number: int,
        *,
        needs: Needs = ONE,
        identity: Callable[[str], Mapping[str, str]] | None = None,
    ) -> Iterator[R]:
        """Yield the result of `function` for each of about `number` items, in their order. Function and items are sent by pickle.

        On a cluster, each item needs the resources `needs` on a node, and the node must have the same `identity` for the function's module.
        Raises the errors of the function, and RuntimeError, with a remedy, if the named cluster is lost or missing.
        """
        processes = min(self._processes, number // WORTH)
        if (address := ray_cluster.address()) and self.uses_cluster(number):
            if self._cluster is None:
                self._cluster = self._stack.enter_context(ray_cluster.connected(address))
            tell = partial(identity or node_identity, module_of(function))
            yield from self._cluster.apply(OnNode(function, Path.cwd(), tell, tell()), items, needs)
        elif processes > 1:
            yield from self._in_processes(function, items, processes)
        else:
            yield from map(function, items)

    def _in_processes(self, function: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[R]:
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of polars' threads
            self._pool = ProcessPoolExecutor(self._processes, spawn, process.die_with_parent)
            self._stack.callback(self._pool.shutdown, cancel_futures=True)
        pending, remaining = deque[Future[R]](), iter(items)
        while True:
            some = islice(remaining, AHEAD * processes - len(pending))
            pending.extend(self._pool.submit(function, item) for item in some)
            if not pending:
                return
            yield pending.popleft().result()


@dataclass(frozen=True)
class OnNode(Generic[T, R]):
    """A function that a node of a cluster runs in the workspace, if the node has the same code and packages."""

    function: Callable[[T], R]
    workspace: Path
    identity: Callable[[], Mapping[str, str]]
    """Returns the facts of a machine on which the bytes of a result depend."""
    here: Mapping[str, str]
    """The facts of the calling machine."""

    def __call__(self, item: T) -> R:
        """Apply the function. Raises FileNotFoundError if this node has no such workspace, ValueError if it has other code or packages."""
        node = os.uname().nodename
        if not self.workspace.is_dir():
            raise FileNotFoundError(
                f"{node} has no folder {self.workspace}: every node of the cluster must see the workspace at this path."
            )
        os.chdir(self.workspace)
        there = self.identity()
        others = [
            "other code" if name == "code" else f"{name} {there.get(name, 'absent')} in place of {value}"
            for name, value in self.here.items()
            if there.get(name) != value
        ]
        if others:
            raise ValueError(
                f"{node} has {', '.join(others)}. Install the same commit on every node, with `constraints.txt`; nodes of another "
                "processor belong in another cluster."
            )
        return self.function(item)


def identity_of(module: str) -> dict[str, str]:
    """Return the facts on which the results of a module's functions depend: its code, Python and polars."""
    code = provenance.code_digest(provenance.closure(module))
    return {"code": code, "python": platform.python_version(), "polars": metadata.version("polars")}


def node_identity(module: str) -> dict[str, str]:
    """Return the facts in which a node must equal this machine: those of `identity_of`, and the versions of packages that read files."""
    return identity_of(module) | {name: _version(name) for name in READERS}


def _version(name: str) -> str:
    """Return the version of a distribution; `absent` if it is not installed, such as that of an extra."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def code_of(module: str) -> str:
    """Return a digest of the code that a module runs, with the versions of Python and polars."""
    identity = identity_of(module)
    return f"{identity['code']} python {identity['python']} polars {identity['polars']}"


def module_of(function: Any) -> str:
    """Return the name of the module of a function, or of the function of a `partial`."""
    return module_of(function.func) if isinstance(function, partial) else str(function.__module__)
