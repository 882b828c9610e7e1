"""Throughput of the sandbox, and leftovers of hostile programs: `python benchmarks/sandbox.py`. Fails if anything is left.

The programs are trivial, so that the sandbox itself is timed: start, fork, verdict; with one worker and with two. Then 1,000 infinite
loops and fork bombs that litter their folder run in one sandbox; processes and files of the host are counted before and after.
"""

import argparse
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
    """Print the level, one line for each number of workers, and the leftovers."""
    print(f"level {sandbox.probe()}")
    for workers in (1, 2):
        print(f"{workers} worker{'s' * (workers > 1)}: {throughput(workers):.0f} cases a second")
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        print(leftovers(Path(folder)))


def throughput(workers: int) -> float:
    """Return the number of trivial cases per second."""
    cases = [
        sandbox.Case(f"def f(x):\n    return x + {n}", Tests("doctest", f">>> f(1)\n{n + 1}\n", "f"))
        for n in range(CASES)
    ]
    start = time.perf_counter()
    verdicts = list(sandbox.run(cases, workers=workers))
    assert all(verdict.kind == "passed" for verdict in verdicts)
    return CASES / (time.perf_counter() - start)


def leftovers(folder: Path) -> str:
    """Run hostile cases and return a sentence if they leave nothing; `folder` holds this process's temporary files."""
    before = set(memory.family(os.getpid()))
    with Sandbox(sandbox.probe().name, SHORT) as worker:
        existing = set(memory.family(os.getpid()))
        kinds = Counter(
            worker.judge(sandbox.Case(BOMBS[n % 2], Tests("script", "pass", "f"))).kind for n in range(HOSTILE)
        )
        processes = set(memory.family(os.getpid())) - existing
        clean = worker.judge(CLEAN)
    processes |= set(memory.family(os.getpid())) - before
    files = [*folder.iterdir()]
    assert kinds.keys() <= {"timeout", "killed"}, kinds
    remains = [*sorted(processes), *files]
    assert not remains, f"left are processes or files: {remains}"
    assert clean.kind == "passed", clean.detail
    return f"{HOSTILE} hostile cases left no process, no file, and their own folder empty"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
