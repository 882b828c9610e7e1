"""Upper bound of the gain of choosing kinds for new tasks over an even spread, from figures of `loop.py`: `python benchmarks/spread.py [DATA …]`.

The accuracy of each kind is fitted as a line over the logarithm of its examples, over all rounds and arms whose answers are the generator's.
Where w is a kind's share of the held-out tasks and b what a doubling of its examples gains, the best spread of a fixed number of examples has
them in proportion to w b (where no example is worth more in another kind), an even one in proportion to w. Between the two lie
sum of w b log2(b / sum of w b). No diagnosis can gain more than that, as far as the lines hold: it would have to know every slope.
A kind is a data set here, its difficulties taken together, as the figures have them. The bound is an estimate of our own, and rather too high:
the noise of slopes makes them look more different than they are.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tasks.core import statistics

ROOT = Path(__file__).resolve().parents[1]
DATA, PROFILE = ROOT / "docs/claims/data", ROOT / "params/reasoning.yaml"
Rows = Sequence[dict[str, Any]]


def main() -> None:
    """Print each kind's slope, and the gain of the best spread with its interval over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["loop"], help="names of figures in docs/claims/data")
    texts = [(DATA / f"{name}.json").read_text(encoding="utf-8") for name in parser.parse_args().data]
    rows = [
        row
        for text in texts
        for row in json.loads(text)
        if row["examples"] and not row["composition"].startswith("own")
    ]
    by_seed = [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]
    kinds = difficulties()
    for kind in kinds:
        print(f"{kind}: {over_seeds([slope(kind, some) for some in by_seed])} for each doubling of its examples")
    print(f"best spread less an even one: {over_seeds([gain(kinds, some) for some in by_seed])}, n = {len(by_seed)}")


def difficulties() -> Counter[str]:
    """Return how often the profile has each data set: each time with as many held-out tasks."""
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    return Counter(task for source in profile["ingest"]["sources"] for task in source["tasks"])


def over_seeds(figures: Sequence[float]) -> str:
    """Format a mean over seeds with its interval."""
    mean = statistics.over_seeds(figures)
    return f"{mean.value:+.4f} [{mean.low:+.4f}, {mean.high:+.4f}]"


def slope(kind: str, rows: Rows) -> float:
    """Return by how much a kind's accuracy rises with each doubling of its examples."""
    points = [(row["examples"][kind], row["kinds"][kind]) for row in rows if row["examples"].get(kind)]
    examples, accuracies = np.array(points).T
    return float(np.polyfit(np.log2(examples), accuracies, 1)[0])


def gain(kinds: Counter[str], rows: Rows) -> float:
    """Return by how much accuracy is higher with the best spread of as many examples than with an even one."""
    weights = np.array(list(kinds.values())) / kinds.total()
    slopes = np.array([max(slope(kind, rows), 1e-9) for kind in kinds])
    worth = weights * slopes
    return float((worth * np.log2(slopes / worth.sum())).sum())


if __name__ == "__main__":
    main()
