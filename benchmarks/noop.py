"""Time of commands that find nothing to do: `python benchmarks/noop.py` in a workspace that is up to date.

Runs the commands in turn, five times each, and prints the median of each and its ratio to bare `dvc repro`. Compare ratios: seconds
depend on the machine.
"""

import argparse
import statistics
import subprocess
import sys
import time

ROUNDS = 5
COMMANDS = {
    "dvc repro": ["dvc", "repro"],
    "ratchet run": ["flows.commands", "run"],
    "ratchet plan": ["flows.commands", "plan"],
    "ratchet --help": ["flows.commands", "--help"],
}


def main() -> None:
    """Print one line for each command."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", *command], capture_output=True, check=True)
            taken[name].append(time.perf_counter() - start)
    bare = statistics.median(taken["dvc repro"])
    for name, seconds in taken.items():
        print(f"{name:<16} {statistics.median(seconds):6.2f} s   {statistics.median(seconds) / bare:5.2f} × dvc repro")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
