"""One stage brought up to date by DVC, in a supervised process of its own."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from flows import supervisor, workspace
from tasks.io import progress

State = Literal["ran", "restored", "unchanged"]

# What dvc 3.67 says of a stage on its way; a test holds that it still does.
RAN = "Running stage '{stage}':"
RESTORED = "Stage '{stage}' is cached - skipping run, checking out outputs"
UNCHANGED = "Stage '{stage}' didn't change, skipping"
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by", "Unable to read RWLock-file")
CHATTER = (
    "Generating lock file",
    "Updating lock file",
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push`",
    "Data and pipelines are up to date",
    "Running stage '",
    "Stage '",
    "> ",
    "WARNING: Process '",  # … had been killed: DVC drops a dead owner's lock
    "  (PID ",
    "If there are no processes with such PIDs",
)
FAILED = re.compile(r"ERROR: failed to reproduce '.*': failed to run: ")
"""What it says where a stage's command has failed, which has told why itself. Any other reason is DVC's own."""
KEPT = 5
"""Lines of a failed stage that its error quotes."""


class Busy(RuntimeError):
    """Another DVC process holds a lock that this one needs. Worth another try, unlike every other failure."""


class StageRunner:
    """Runs the stages of one flow. Leaving it by an exception ends the stages at work, and starts no other."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
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

    def reproduce(self, stage: str, env: Mapping[str, str]) -> State:
        """Bring `stage` up to date by `dvc repro -s` and return what DVC did.

        What the stage prints goes to the console line by line, with DVC's own words to `.ratchet/logs/<stage>.log`.
        Raises Busy while another DVC process is in the way, RuntimeError where the stage fails.
        """
        workspace.LOGS.mkdir(parents=True, exist_ok=True)
        log = workspace.LOGS / f"{stage.replace('/', '_')}.log"
        process = self._start(stage, env)
        try:
            state, told, busy = _listen(stage, process, log)
        except BaseException:
            # A full disk under the log, say: a stage that nobody hears must not work on, nor beside the next.
            supervisor.stop([process])
            raise
        finally:
            self._running.discard(process)
        if process.returncode == 0:
            return state
        raise _failure(stage, process.returncode, told, log, busy=busy)

    def _start(self, stage: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._guard:
            if self._stopped:
                raise RuntimeError(f"stage {stage} did not start: the flow is being stopped.")
            process = supervisor.start(
                [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
                env=_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",  # a program may print any bytes
            )
            self._running.add(process)
        return process


def _listen(stage: str, process: subprocess.Popen[str], log: Path) -> tuple[State, list[str], bool]:
    """Show and log what a stage prints until it ends. Returns what DVC did, the stage's last lines, and whether DVC was busy."""
    state: State = "unchanged"
    told: deque[str] = deque(maxlen=KEPT)
    busy = False
    assert process.stdout
    with log.open("w", encoding="utf-8") as file, process.stdout:
        for line in process.stdout:
            file.write(line)
            file.flush()
            text = line.rstrip()
            state = _answer(stage, text) or state
            busy = busy or any(words in text for words in BUSY)
            if text and not text.startswith(CHATTER) and not FAILED.match(text):
                told.append(text)
                progress.say(f"  {stage} │ {text}")
    process.wait()
    return state, list(told), busy


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a stage: `python` in a command of dvc.yaml is the one that runs this."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return dict(os.environ) | {"PATH": path, "PYTHONUNBUFFERED": "1"} | dict(extra)


def _answer(stage: str, line: str) -> State | None:
    if line == RAN.format(stage=stage):
        return "ran"
    if line == RESTORED.format(stage=stage):
        return "restored"
    return "unchanged" if line == UNCHANGED.format(stage=stage) else None


def _failure(stage: str, code: int, told: list[str], log: Path, *, busy: bool) -> RuntimeError:
    if busy:
        return Busy(f"{stage}: another DVC process is in the way; {log} says which.")
    last = "\n".join(f"    {line}" for line in told)
    return RuntimeError(f"stage {stage} failed (exit code {code}). The last lines of {log}:\n{last}")
