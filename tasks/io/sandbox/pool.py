"""Judge a stream of cases with several sandboxes at once."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from tasks.io.sandbox.levels import demand
from tasks.io.sandbox.probes import prove
from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Case, Isolation, Limits, Outputs, Verdict

PAUSES_S = (0.0, 0.5, 3.0)  # before each try to start a sandbox
T = TypeVar("T")
AHEAD = 4  # cases read ahead of the verdicts, per worker


def run(
    cases: Iterable[Case], *, limits: Limits | None = None, minimum: int = 2, workers: int = 2, trusted: bool = False
) -> Iterator[Verdict]:
    """Yield the verdicts lazily, in the order of the cases.

    Raises RuntimeError at once if the machine offers less than level `minimum` or if its sandbox fails a probe. Level 1 is enough for
    `trusted` programs: those of packages that the user has installed and would run anyway.
    """
    if minimum < 2 and not trusted:
        raise ValueError(
            f"minimum={minimum} is for code of the user's own installed packages: say trusted=True if it is."
        )
    return verdicts(cases, isolation(1 if trusted else minimum), limits or Limits(), workers)


def outputs(cases: Iterable[Case], *, limits: Limits | None = None, workers: int = 2) -> Iterator[Outputs | Verdict]:
    """Yield for each case, in order, the printed outputs of all examples of its doctest. Expected outputs are ignored.

    The output of an example that raises is None. If the program fails to load or ends before its last example, a verdict is yielded
    instead. Raises RuntimeError like `run`.
    """
    return _each(cases, Sandbox.observe, isolation(2), limits or Limits(), workers)


def verdicts(cases: Iterable[Case], name: Isolation, limits: Limits, workers: int) -> Iterator[Verdict]:
    """Yield the verdicts of `workers` sandboxes with this isolation."""
    return _each(cases, Sandbox.judge, name, limits, workers)


def isolation(minimum: int) -> Isolation:
    """Return the machine's isolation. Test it by all probes first if it is of level 2 or above, for programs that a model wrote.

    Raises RuntimeError if it is below level `minimum` or fails a probe.
    """
    level = demand(minimum)
    if level.number >= 2:
        prove(level.name)
    return level.name


def _each(
    cases: Iterable[Case], work: Callable[[Sandbox, Case], T], name: Isolation, limits: Limits, workers: int
) -> Iterator[T]:
    """Apply `work` to each case in one of `workers` sandboxes, and yield the results in order."""
    pending: deque[Future[T]] = deque()
    idle: SimpleQueue[Worker] = SimpleQueue()
    all_workers = [Worker(name, limits) for _ in range(workers)]
    for worker in all_workers:
        idle.put(worker)

    def do(case: Case) -> T:
        worker = idle.get()
        try:
            return worker.do(work, case)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(workers, "sandbox") as threads:
        try:
            for case in cases:
                pending.append(threads.submit(do, case))
                if len(pending) >= AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
            for worker in all_workers:
                worker.close()


def start_sandbox(name: Isolation, limits: Limits, package: str = "") -> Sandbox:
    """Start a sandbox. Retry a failed start, because a machine may lack memory or processes for a moment.

    Raises RuntimeError after the last try.
    """
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            return Sandbox(name, limits, package)
        except RuntimeError as error:
            problem = error
    raise RuntimeError(
        f"A sandbox ({name}) does not start any more, in {len(PAUSES_S)} tries: {problem}. Is the machine out of memory "
        "or processes? Free some and run again."
    ) from problem


class Worker:
    """Runs cases one at a time. Starts a sandbox for the first case, and a new one after each case that left it unusable."""

    def __init__(self, name: Isolation, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.sandbox: Sandbox | None = None

    def do(self, work: Callable[[Sandbox, Case], T], case: Case) -> T:
        self.sandbox = self.sandbox or start_sandbox(self.name, self.limits)
        result = work(self.sandbox, case)
        if not self.sandbox.usable:
            self.close()
        return result

    def close(self) -> None:
        if self.sandbox:
            self.sandbox.close()
        self.sandbox = None
