"""How many cases a second the sandbox judges, and what hostile ones leave: `python benchmarks/sandbox.py`; fails where that is anything.

Trivial programs, so that what is timed is the sandbox: start, fork, verdict; for one worker and for two. Then 1,000 infinite loops
and fork bombs in a row that litter their folder, in one sandbox; processes and files of the host are counted before and after.
"""

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from tasks.core.records import Tests
from tasks.io import sandbox
from tasks.io.sandbox import memory
from tasks.io.sandbox.process import Sandbox

CASES = 600
HOSTILE = 1000
LITTER = "import os, tempfile\nfor name in range(100): open(str(name), 'w').close()\nopen('../beside', 'w').close()\n"
BOMBS = (
    LITTER + "while True: pass",
    LITTER + "while True:\n    try: os.fork()\n    except OSError: pass",
)
SHORT = sandbox.Limits(wall_s=0.1)
CLEAN = sandbox.Case("import os", Tests("script", "assert (os.listdir('..'), os.listdir('.')) == (['case'], [])", "os"))


def main() -> None:
    """Print the level, one line for each number of workers, and what was left."""
    print(f"level {sandbox.probe()}")
    for workers in (1, 2):
        print(f"{workers} worker{'s' * (workers > 1)}: {throughput(workers):.0f} cases a second")
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        print(leftovers(Path(folder)))


def throughput(workers: int) -> float:
    """Trivial cases a second."""
    cases = [
        sandbox.Case(f"def f(x):\n    return x + {n}", Tests("doctest", f">>> f(1)\n{n + 1}\n", "f"))
        for n in range(CASES)
    ]
    start = time.perf_counter()
    verdicts = list(sandbox.run(cases, workers=workers))
    assert all(verdict.outcome == "passed" for verdict in verdicts)
    return CASES / (time.perf_counter() - start)


def leftovers(folder: Path) -> str:
    """What hostile cases leave, in a sentence, if it is nothing; `folder` is where this process puts its temporary files."""
    before = set(memory.family(os.getpid()))
    with Sandbox(sandbox.probe().name, SHORT) as one:
        own = set(memory.family(os.getpid()))
        outcomes = Counter(
            one.judge(sandbox.Case(BOMBS[n % 2], Tests("script", "pass", "f"))).outcome for n in range(HOSTILE)
        )
        processes = set(memory.family(os.getpid())) - own
        clean = one.judge(CLEAN)
    processes |= set(memory.family(os.getpid())) - before
    files = [*folder.iterdir()]
    assert outcomes.keys() <= {"timeout", "killed"}, outcomes
    left = [*sorted(processes), *files]
    assert not left, f"left are processes or files: {left}"
    assert clean.outcome == "passed", clean.detail
    return f"{HOSTILE} hostile cases left no process, no file, and their own folder empty"


if __name__ == "__main__":
    main()
