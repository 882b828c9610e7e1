"""Import what stages import, then fork a child for every stage that asks: `python -m tasks.forkserver.server DRIVER`.

The server ends with the process DRIVER (a flow, or a `dvc repro`), and as soon as a request shows that code, packages, settings or
environment are not those that it has in memory. It has one thread, so that a fork is safe: libraries that start threads when they are
imported (polars, and the memory allocator of pyarrow, which is told not to) are left to the children.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import pkgutil
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tasks.core import imports
from tasks.forkserver import protocol

MODULES = (
    "tasks.forkserver.libraries",
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "tasks.engine.training.job",
    "tasks.engine.inference.generation",
    "tasks.engine.inference.embedding",
    "tasks.engine.inference.readout",
)
"""What most stages with a model import, and what takes long."""
QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""Settings for imports that would start threads. Children undo the second."""
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
BACKLOG = 16
PATIENCE_S = 10.0
"""How long stages may take to end once the driver has gone."""


@dataclass
class Child:
    """A stage at work, and the client that waits for it."""

    pid: int
    connection: socket.socket


class Server:
    """Accepts requests and forks, in one thread, until its driver has gone or it is stale."""

    def __init__(self, listener: socket.socket, driver: int, fingerprint: str) -> None:
        self._listener, self._fingerprint = listener, fingerprint
        self._children: dict[int, Child] = {}
        """By the file descriptor that tells their end."""
        self._selector = selectors.DefaultSelector()
        self._driver = os.pidfd_open(driver)
        self._selector.register(self._driver, selectors.EVENT_READ, self._end)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._is_open = self._has_driver = True

    def serve(self) -> None:
        """Serve until the driver has gone (or this server is stale) and every child has ended."""
        while self._is_open or self._children:
            events = self._selector.select(None if self._has_driver else PATIENCE_S)
            if not events:
                for child in self._children.values():
                    _kill(child.pid)
            for key, _ in events:
                key.data()

    def _close(self) -> None:
        """Accept no more requests; stages at work go on."""
        if self._is_open:
            self._is_open = False
            protocol.SOCKET.unlink(missing_ok=True)
            self._selector.unregister(self._listener)
            self._listener.close()

    def _end(self) -> None:
        """Accept no more requests, since the driver has gone: its stages have `PATIENCE_S` to end by themselves."""
        self._has_driver = False
        self._selector.unregister(self._driver)
        self._close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE_S)  # a client that says nothing must not keep the others waiting
        try:
            received = protocol.receive(connection, files=3)
        except (OSError, ValueError):  # it said nothing in time, or what is no message
            received = None
        request, files = received or ({}, [])
        if received is None or _has_gone(connection):
            connection.close()
        elif request["fingerprint"] != self._fingerprint or len(files) != 3 or _count_threads() != 1:
            with contextlib.suppress(OSError):
                protocol.send(connection, {"refused": "stale"})
            connection.close()
            self._close()
        else:
            self._fork(connection, request, files)
        for file in files:
            os.close(file)

    def _fork(self, connection: socket.socket, request: Mapping[str, Any], files: list[int]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _work(
                server, request, files, [connection, self._listener, *(c.connection for c in self._children.values())]
            )
        ended = os.pidfd_open(pid)
        self._children[ended] = Child(pid, connection)
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._report(ended))
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._abandon(ended))
        with contextlib.suppress(OSError):
            protocol.send(connection, {"pid": pid})

    def _report(self, ended: int) -> None:
        """Tell a client how its child has ended."""
        if (child := self._children.pop(ended, None)) is None:
            return
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            protocol.send(child.connection, {"code": code if code >= 0 else 128 - code})
        for watched in (ended, child.connection):
            self._selector.unregister(watched)
        child.connection.close()
        os.close(ended)

    def _abandon(self, ended: int) -> None:
        """Kill a child whose client was killed: a stage outlives nobody who started it."""
        if child := self._children.get(ended):
            _kill(child.pid)
            self._report(ended)


def main(driver: int) -> int:
    """Listen, import, and serve; the exit code."""
    if (listener := _listen()) is None:
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    os.environ |= {name: value for name, value in QUIET.items() if name not in os.environ}
    fingerprint = protocol.fingerprint(_BEFORE)
    try:
        _use_threads_of_settings()
        with imports.lasting():
            for module in MODULES:
                importlib.import_module(module)
        gc.freeze()
        if _count_threads() != 1 or fingerprint != protocol.fingerprint(_BEFORE):
            return 1  # a library of this environment starts threads, or a file changed meanwhile: stages run as ever
        protocol.STARTING.rename(protocol.SOCKET)
    finally:
        protocol.STARTING.unlink(missing_ok=True)
    _name_process(protocol.NAME)
    try:
        Server(listener, driver, fingerprint).serve()
    except ProcessLookupError:  # the driver has gone already
        protocol.SOCKET.unlink(missing_ok=True)
    return 0


_BEFORE = dict(os.environ)
"""The environment as it came: that of the clients."""


def _use_threads_of_settings() -> None:
    """Set OMP_NUM_THREADS, which is read when libraries are loaded, as the runner of stages does, and what else it sets before."""
    from tasks import configuration
    from tasks.io.system import process

    process.quiet()
    process.set_threads(configuration.load().compute)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End at once, and leave no socket: programs that copy a folder stumble over one. The kernel ends the children."""
    for path in (protocol.STARTING, protocol.SOCKET):
        path.unlink(missing_ok=True)
    os._exit(128 + number)


def _listen() -> socket.socket | None:
    """Return the listening socket; None where another server has it, or is about to."""
    listener = socket.socket(socket.AF_UNIX)
    protocol.SOCKET.parent.mkdir(exist_ok=True)
    for path in (protocol.STARTING, protocol.SOCKET):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as other:
            other.connect(str(path))
            return None
        path.unlink(missing_ok=True)
    mask = os.umask(0o077)  # for this user alone
    try:
        listener.bind(str(protocol.STARTING))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


def _has_gone(connection: socket.socket) -> bool:
    """Return True if a client that has asked was killed meanwhile: it may have waited long. Nothing else can be read from it."""
    return bool(select.select([connection], [], [], 0)[0])


def _work(server: int, request: Mapping[str, Any], files: list[int], connections: list[socket.socket]) -> NoReturn:
    """Run a stage in the child, and end it as an interpreter ends, without taking everything apart."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        _name_process(request["name"])
        for connection in connections:
            connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        code = _run_program(request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Idle pools of threads are ended, which would wait for ever, and threads at work are waited for.
        threading._shutdown()  # type: ignore[attr-defined]  # multiprocessing ends its children by it too
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _run_program(request: Mapping[str, Any]) -> int:
    """Put this process in the place of the client, and run its program."""
    from threadpoolctl import ThreadpoolController

    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    threads = int(os.environ["OMP_NUM_THREADS"])
    os.environ.clear()
    os.environ |= request["environment"]
    for library in ThreadpoolController().select(internal_api="openblas").lib_controllers:
        library.set_num_threads(threads)
    sys.argv = [request["program"], *request["arguments"]]
    main = pkgutil.resolve_name(protocol.PROGRAMS[request["program"]])
    return int(main(request["arguments"], forked=True))


def _name_process(name: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NAME, name.encode())


def _kill(pid: int) -> None:
    """Kill a child, and all in its session."""
    for kill in (os.killpg, os.kill):  # before it leads a session of its own, it is in no group of its number
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def _count_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
