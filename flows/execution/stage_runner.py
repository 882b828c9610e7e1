"""Run a stage: bring it up to date by DVC, in a supervised process of its own."""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.execution import supervisor, workspace
from flows.execution.dvc import cli, console, rwlock
from flows.execution.dvc.console import State
from tasks.forkserver import client, protocol
from tasks.io.system import progress

PACE_S = 0.5
KEPT = 5
"""Lines of a failed stage that its error quotes."""
EARLY = (
    "The fork server ended before the run: code, settings, packages or environment changed meanwhile, or a library started threads. "
    "Stages after that imported their libraries themselves, some seconds each."
)


class Busy(RuntimeError):
    """Raised if another DVC process holds a lock that a stage needs. Unlike every other failure, it is worth a retry."""


def print_line(stage: str, text: str) -> None:
    """Print a line of a stage."""
    progress.say(f"  {stage} │ {text}")


class StageRunner:
    """Runs the stages of one flow. An exception that leaves its `with` block ends running stages; no stage starts after it."""

    def __init__(self, show: Callable[[str, str], None] = print_line) -> None:
        """`show` takes the name of a stage and each line that it prints."""
        self._show = show
        self._running: set[subprocess.Popen[str]] = set()
        self._fork_server: subprocess.Popen[str] | None = None
        self._stopped = False
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with self._guard:
                self._stopped = True
                running = list(self._running)
            supervisor.stop(running)
        if self._fork_server:
            if self._fork_server.poll() is not None and kind is None:
                progress.say(EARLY)
            supervisor.stop([self._fork_server])

    def start_fork_server(self) -> None:
        """Start the fork server, from which stages are forked so that large libraries are imported once. It ends with this block."""
        if client.is_wanted():
            self._fork_server = supervisor.start(
                client.command(os.getpid()),
                env=_environment({}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def reproduce(self, stage: str, env: Mapping[str, str]) -> State:
        """Bring `stage` up to date by `dvc repro -s` and return what DVC did.

        What the stage prints is shown line by line, and written with DVC's own output to `.ratchet/logs/<stage>.log`. A `dvc repro` that a
        person started is waited for first, since it would discard the work of its stage if this one held DVC's lock for 3 s at its end.
        Raises Busy while another DVC process holds a lock that the stage needs, RuntimeError if the stage fails.
        """
        workspace.LOGS.mkdir(parents=True, exist_ok=True)
        log = workspace.LOGS / f"{stage.replace('/', '_')}.log"
        self._await_dvc(stage)
        process = self._start(stage, env)
        try:
            state, last_lines, busy = _follow(stage, process, log, self._show)
        except BaseException:
            # For example the log's disk is full: a stage whose output nobody reads must not go on beside the next one.
            supervisor.stop([process])
            raise
        finally:
            self._running.discard(process)
        if process.returncode == 0:
            return state
        raise _failure(stage, process.returncode, last_lines, log, busy=busy)

    def _await_dvc(self, stage: str) -> None:
        """Return when no DVC process that a person started runs a stage here, or when this flow is stopped."""
        started_by_hand, reported = rwlock.StartedByHand(), set[int]()
        while (others := started_by_hand.running()) and not self._stopped:
            for pid in others.keys() - reported:
                self._show(stage, f"DVC (process {pid}) works in this workspace. This stage starts when it has ended.")
                reported.add(pid)
            time.sleep(PACE_S)

    def _start(self, stage: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._guard:
            if self._stopped:
                raise RuntimeError(f"stage {stage} did not start: the flow is being stopped.")
            process = supervisor.start(
                cli.repro_command(stage),
                env=_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",  # a program may print any bytes
            )
            self._running.add(process)
        return process


def _follow(
    stage: str, process: subprocess.Popen[str], log: Path, show: Callable[[str, str], None]
) -> tuple[State, list[str], bool]:
    """Show and log what a stage prints until it ends. Returns what DVC did, the stage's last lines, and whether DVC was busy."""
    state: State = "unchanged"
    last_lines: deque[str] = deque(maxlen=KEPT)
    busy = False
    assert process.stdout
    with log.open("w", encoding="utf-8") as file, process.stdout:
        for line in process.stdout:
            file.write(line)
            file.flush()
            text = line.rstrip()
            state = console.state(stage, text) or state
            busy = busy or console.is_busy(text)
            if text and not console.is_chatter(text):
                last_lines.append(text)
                show(stage, text)
    process.wait()
    return state, list(last_lines), busy


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a stage, in which `python` in a command of dvc.yaml is the running interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return dict(os.environ) | {"PATH": path, "PYTHONUNBUFFERED": "1", protocol.DRIVER: str(os.getpid())} | dict(extra)


def _failure(stage: str, code: int, last_lines: list[str], log: Path, *, busy: bool) -> RuntimeError:
    if busy:
        return Busy(f"{stage}: another DVC process holds a lock; {log} says which.")
    quoted = "\n".join(f"    {line}" for line in last_lines)
    return RuntimeError(f"stage {stage} failed (exit code {code}). The last lines of {log}:\n{quoted}")
