"""How many cases a second the sandbox judges: `python benchmarks/sandbox.py`.

Trivial programs, so that what is timed is the sandbox: start, fork, verdict. Prints cases a second for one worker and for two.
"""

import time

from tasks.core.records import Tests
from tasks.io import sandbox

CASES = 600


def main() -> None:
    """Print the level and one line for each number of workers."""
    print(f"level {sandbox.probe().number} ({sandbox.probe().name})")
    cases = [
        sandbox.Case(f"def f(x):\n    return x + {n}", Tests("doctest", f">>> f(1)\n{n + 1}\n", "f"))
        for n in range(CASES)
    ]
    for workers in (1, 2):
        start = time.perf_counter()
        verdicts = list(sandbox.run(cases, workers=workers))
        seconds = time.perf_counter() - start
        assert all(verdict.outcome == "passed" for verdict in verdicts)
        print(f"{workers} worker{'s' * (workers > 1)}: {CASES / seconds:.0f} cases a second")


if __name__ == "__main__":
    main()
