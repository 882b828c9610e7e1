"""The most that aiming new tasks could gain over an even spread, by the figures of `loop.py`: `python benchmarks/spread.py [DATA …]`.

The accuracy of each kind is fitted as a line over the logarithm of its examples, over all rounds and arms whose answers are the generator's.
Where w is a kind's share of the held-out tasks and b what a doubling of its examples gains, the best spread of a fixed number of examples has
them in proportion to w b (where no example is worth more in another kind), an even one in proportion to w. Between the two lie
sum of w b log2(b / sum of w b). No diagnosis can gain more than that, as far as the lines hold: it would have to know every slope.
A kind is a data set here, its difficulties taken together, as the figures have them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import statistics

DATA = Path(__file__).resolve().parents[1] / "docs/claims/data"
DIFFICULTIES = {"family_relationships": 1, "needle_haystack": 2, "sentence_reordering": 2, "word_sequence_reversal": 2}
"""Of each data set, as many held-out tasks each."""
Rows = Sequence[dict[str, Any]]


def main() -> None:
    """Print each kind's line over all seeds, and the gain of the best spread with its interval over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["loop"], help="names of figures in docs/claims/data")
    texts = [(DATA / f"{name}.json").read_text(encoding="utf-8") for name in parser.parse_args().data]
    rows = [
        row
        for text in texts
        for row in json.loads(text)
        if row["examples"] and not row["composition"].startswith("own")
    ]
    for kind, (start, slope, trainings) in {kind: line(kind, rows) for kind in DIFFICULTIES}.items():
        print(f"{kind:<24} {start:.3f} with one example, {slope:+.3f} for each doubling ({trainings} trainings)")
    seeds = sorted({row["seed"] for row in rows})
    by_seed = statistics.over_seeds([gain([row for row in rows if row["seed"] == seed]) for seed in seeds])
    print(
        f"best spread less an even one: {gain(rows):+.4f} over all trainings; by seed {by_seed.value:+.4f} "
        f"[{by_seed.low:+.4f}, {by_seed.high:+.4f}] (n = {by_seed.n})"
    )


def line(kind: str, rows: Rows) -> tuple[float, float, int]:
    """Return a kind's accuracy with one example, its rise with each doubling, and the number of trainings they are fitted to."""
    points = [(row["examples"][kind], row["kinds"][kind]) for row in rows if row["examples"].get(kind)]
    examples, accuracies = np.array(points).T
    slope, start = np.polyfit(np.log2(examples), accuracies, 1)
    return float(start), float(slope), len(points)


def gain(rows: Rows) -> float:
    """Return by how much accuracy is higher with the best spread of as many examples than with an even one."""
    weights = np.array(list(DIFFICULTIES.values())) / sum(DIFFICULTIES.values())
    slopes = np.array([max(line(kind, rows)[1], 1e-9) for kind in DIFFICULTIES])
    worth = weights * slopes
    return float((worth * np.log2(slopes / worth.sum())).sum())


if __name__ == "__main__":
    main()
