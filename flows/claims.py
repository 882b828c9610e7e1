"""The ledger of claims: what papers say of their methods, and what was found here. One file a method in `docs/claims/`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tasks.core.statistics import Estimate

FOLDER = Path(__file__).resolve().parents[1] / "docs/claims"
DATA = FOLDER / "data"
"""A row for each training of comparisons that claims rest on."""
Verdict = Literal["reproduced", "not reproduced", "not decidable at this size", "open"]
CHANCE = 0.8
"""The power that `detectable` is told for."""


@dataclass(frozen=True)
class Source:
    """Where figures by seed are taken from, as `docs/ledger.py` does."""

    comparison: str
    """The name of a file in `docs/claims/data/`."""
    of: str
    """A composition there, and in `less` the one it is compared with."""
    less: str
    metric: str
    """As `flows.standings.by_seed` has it."""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, as it is tested here. What was not written down before the runs stands in `changed`."""

    claim: str
    """What the paper says, in our words, or what we expect."""
    metric: str
    """What is measured."""
    control: str
    """What it is compared with, tuned alike."""
    command: str
    """What anyone runs to see it."""
    found: str
    """The figures; empty while it is open."""
    verdict: Verdict
    seeds: int = 0
    """Trainings of each side; 0 for what no seed changes."""
    rounds: int = 0
    """How often time and memory were taken, where that is what is measured."""
    steps: str = ""
    """How long the trainings are, in optimizer steps."""
    per_seed: tuple[float, ...] = ()
    """The metric with each seed, less the control's where it is a loss. The verdict follows from its interval."""
    per_round: tuple[float, ...] = ()
    """The metric in each round that is known by itself, in times the control's. The verdict follows from its interval."""
    source: Source | None = None
    """Where `per_seed` comes from; None for what people have written down."""
    origin: Literal["paper", "ours"] = "paper"
    """Whose claim it is: what we expect of what is our design and not the paper's is marked so."""
    side: Literal["below", "above"] = "below"
    """Where the claim has the metric: below `bound` or above it."""
    bound: float = 0.0
    changed: tuple[str, ...] = ()
    """What was settled or altered after the claim had been written down: when, what, why."""

    def interval(self) -> Estimate | None:
        """The mean of the figures by seed or by round with Student's 95 % interval; None without any.

        Rounds have the interval that seeds have, not the range from the least to the most: that of four rounds holds the
        middle of all that could be taken with 7 chances in 8 only.
        """
        from tasks.core import statistics  # numpy: not needed to list methods

        figures = self.per_seed or self.per_round
        return statistics.over_seeds(figures) if figures else None

    def implied(self) -> Verdict | None:
        """The verdict that the interval asks for: all of it where the claim has it, all of it on the other side, or neither.

        Figures that are all equal (few answers that pass, say) have no spread to judge by.
        """
        found = self.interval()
        if found is None:
            return None
        if found.low <= self.bound <= found.high or found.low == found.high:
            return "not decidable at this size"
        return "reproduced" if (found.high < self.bound) == (self.side == "below") else "not reproduced"

    def detectable(self) -> float | None:
        """The smallest distance from `bound` that a t test of so many seeds or rounds, as spread as these, shows with 80 % power."""
        from scipy import special

        found = self.interval()
        if found is None or found.n < 2 or found.low == found.high:
            return None
        t = special.stdtrit(found.n - 1, 0.975)
        return float(special.nctdtrinc(found.n - 1, 1 - CHANCE, t) * (found.high - found.value) / t)


def read(method: str) -> list[Claim]:
    """The claims of a method; none where nothing was written down."""
    file = FOLDER / f"{method}.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return [_claim(row) for row in rows]


def _claim(row: dict[str, Any]) -> Claim:
    lists = {name: tuple(row[name]) for name in ("per_seed", "per_round", "changed") if name in row}
    source = {"source": Source(**row["source"])} if "source" in row else {}
    whole: dict[str, Any] = row | lists | source
    return Claim(**whole)


def taken(claim: Claim) -> tuple[float, ...]:
    """The figures by seed that a claim's source holds. Raises ValueError where it does not hold them."""
    from flows import standings

    assert claim.source
    text = (DATA / f"{claim.source.comparison}.json").read_text(encoding="utf-8")
    return tuple(standings.by_seed(json.loads(text), claim.source.of, claim.source.less, claim.source.metric))


def state(method: str) -> str:
    """How a method's claims stand: `2 reproduced, 1 open`; empty without any."""
    counts = Counter(claim.verdict for claim in read(method))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
