"""Programs in, verdicts out, over a few sandboxes at once."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from tasks.io.sandbox.levels import demand
from tasks.io.sandbox.probes import prove
from tasks.io.sandbox.process import Sandbox
from tasks.io.sandbox.records import Case, Isolation, Limits, Verdict

PAUSES_S = (0.0, 0.5, 3.0)  # before each try to start a sandbox
AHEAD = 4  # cases that are read ahead of the verdicts, per worker


def run(
    cases: Iterable[Case], *, limits: Limits | None = None, minimum: int = 2, workers: int = 2, trusted: bool = False
) -> Iterator[Verdict]:
    """The verdicts, lazily, in the order of the cases.

    Refuses at once, with RuntimeError, where the machine gives less than level `minimum` or where its sandbox does not hold. Level 1
    suffices for `trusted` programs, those of packages that the user has installed and would run anyway.
    """
    if minimum < 2 and not trusted:
        raise ValueError(
            f"minimum={minimum} is for code of the user's own installed packages: say trusted=True if it is."
        )
    level = demand(1 if trusted else minimum)
    if level.number >= 2:
        prove(level.name)
    return verdicts(cases, level.name, limits or Limits(), workers)


def verdicts(cases: Iterable[Case], name: Isolation, limits: Limits, workers: int) -> Iterator[Verdict]:
    """The verdicts from `workers` sandboxes of the isolation called `name`."""
    pending: deque[Future[Verdict]] = deque()
    idle: SimpleQueue[Worker] = SimpleQueue()
    crew = [Worker(name, limits) for _ in range(workers)]
    for worker in crew:
        idle.put(worker)

    def judge(case: Case) -> Verdict:
        worker = idle.get()
        try:
            return worker.judge(case)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(workers, "sandbox") as threads:
        try:
            for case in cases:
                pending.append(threads.submit(judge, case))
                if len(pending) >= AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
            for worker in crew:
                worker.close()


def started(name: Isolation, limits: Limits) -> Sandbox:
    """A new sandbox. A machine that is short of something for a moment may refuse one; RuntimeError where it goes on refusing."""
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            return Sandbox(name, limits)
        except RuntimeError as error:
            problem = error
    raise RuntimeError(
        f"A sandbox ({name}) does not start any more, in {len(PAUSES_S)} tries: {problem}. Is the machine out of memory "
        "or processes? Free some and run again."
    ) from problem


class Worker:
    """A place in which one sandbox follows another: one at the first case, a new one after each that did not survive."""

    def __init__(self, name: Isolation, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.sandbox: Sandbox | None = None

    def judge(self, case: Case) -> Verdict:
        self.sandbox = self.sandbox or started(self.name, self.limits)
        verdict = self.sandbox.judge(case)
        if not self.sandbox.usable:
            self.close()
        return verdict

    def close(self) -> None:
        if self.sandbox:
            self.sandbox.close()
        self.sandbox = None
