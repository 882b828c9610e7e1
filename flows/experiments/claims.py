"""Read the ledger of claims: what papers say of their methods, and what our runs show. One file a method, or of a study of several the comparison, in `docs/claims/`."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tasks.core.statistics import Estimate

FOLDER = Path(__file__).resolve().parents[2] / "docs/claims"
DATA = FOLDER / "data"
"""A row for each training of comparisons that claims rest on."""
Verdict = Literal["reproduced", "not reproduced", "not decidable at this size", "open"]
CHANCE = 0.8
"""The power that `detectable` is computed for."""


@dataclass(frozen=True)
class FigureSource:
    """The comparison that `docs/ledger.py` takes figures by seed from."""

    comparison: str
    """The name of a file in `docs/claims/data/`."""
    of: str
    """A composition there, and in `less` the one it is compared with."""
    less: str
    metric: str
    """A figure, as `results_table.differences_by_seed` takes it."""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, as it is tested here. `changed` holds what was not written down before the runs."""

    claim: str
    """The paper's statement in our words, or our expectation."""
    metric: str
    """The quantity that is measured."""
    control: str
    """The composition it is compared with, tuned alike."""
    command: str
    """The command that repeats the measurement."""
    found: str
    """The figures; empty while it is open."""
    verdict: Verdict
    seeds: int = 0
    """Trainings of each side; 0 for what no seed changes."""
    rounds: int = 0
    """Number of measurements of time and memory, for a claim about those."""
    steps: str = ""
    """Length of the trainings in optimizer steps."""
    per_seed: tuple[float, ...] = ()
    """The metric with each seed, less the control's where it is a loss. The verdict follows from its interval."""
    per_round: tuple[float, ...] = ()
    """The metric in each round that is known by itself, in times the control's. The verdict follows from its interval."""
    source: FigureSource | None = None
    """The comparison that `per_seed` comes from; None for figures that people have written down."""
    typed: str = ""
    """Why people have written them down, where no trainings are kept."""
    origin: Literal["paper", "ours"] = "paper"
    """`ours` for an expectation of our own design, which is not the paper's."""
    side: Literal["below", "above"] = "below"
    """The side of `bound` on which the claim has the metric."""
    bound: float = 0.0
    planned: float | None = None
    """The smallest distance from `bound` that was to be seen with 80 % power, written down before the run; None where none was."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds or rounds after which the figures had been looked at and more were added; empty where the number was settled before."""
    changed: tuple[str, ...] = ()
    """Decisions and changes after the claim had been written down: when, what, why."""

    def interval(self) -> Estimate | None:
        """Return the mean of the figures by seed or by round with its 95 % interval; None without any.

        It is Student's, or where seeds were added after a look, one that holds at any number of seeds. Rounds have the interval that seeds have, not the range from the least to the most: that of four rounds holds the
        middle of all that could be taken with 7 chances in 8 only.
        """
        from tasks.core import statistics  # numpy: not needed to list methods

        figures = self.per_seed or self.per_round
        if not figures:
            return None
        return statistics.over_seeds_at_any_time(figures) if self.looks else statistics.over_seeds(figures)

    def implied(self) -> Verdict | None:
        """Return the verdict that follows from the interval: all of it on the claim's side of `bound`, all of it on the other, or neither."""
        mean = self.interval()
        if mean is None:
            return None
        if mean.low <= self.bound <= mean.high:
            return "not decidable at this size"
        return "reproduced" if (mean.high < self.bound) == (self.side == "below") else "not reproduced"

    def p_value(self) -> float | None:
        """Return the two-sided p-value of the figures against `bound`: 1 where they have no spread, None without any.

        It is that of Student's t test, or where seeds were added after a look, one that may be looked at after each seed.
        """
        from scipy import special

        from tasks.core import statistics

        figures = self.per_seed or self.per_round
        if not figures:
            return None
        mean = statistics.over_seeds(figures)
        if math.isinf(mean.high):
            return 1.0
        if self.looks:
            return statistics.p_at_any_time([figure - self.bound for figure in figures])
        error = (mean.high - mean.value) / special.stdtrit(mean.n - 1, 0.975)
        return float(2 * special.stdtr(mean.n - 1, -abs(mean.value - self.bound) / error))

    def detectable(self) -> float | None:
        """Return the smallest distance from `bound` that the test of so many seeds or rounds, as spread as these, shows with 80 % power.

        The test is Student's, or where seeds were added after a look, that of `interval`: infinite where this has no bounds yet.
        """
        from scipy import special

        from tasks.core import statistics

        mean = self.interval()
        if mean is None:
            return None
        fixed = statistics.over_seeds(self.per_seed or self.per_round)
        if math.isinf(fixed.high):
            return None
        error = (fixed.high - fixed.value) / special.stdtrit(fixed.n - 1, 0.975)
        t = (mean.high - mean.value) / error
        return float(special.nctdtrinc(mean.n - 1, 1 - CHANCE, t) * error) if math.isfinite(t) else math.inf


def read(method: str) -> list[Claim]:
    """Return the claims of a method; none if it has no file."""
    file = FOLDER / f"{method}.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return [_claim(row) for row in rows]


def _claim(row: dict[str, Any]) -> Claim:
    lists = {name: tuple(row[name]) for name in ("per_seed", "per_round", "looks", "changed") if name in row}
    source = {"source": FigureSource(**row["source"])} if "source" in row else {}
    fields: dict[str, Any] = row | lists | source
    return Claim(**fields)


def figures_from_source(claim: Claim) -> tuple[float, ...]:
    """Return the figures by seed that a claim's source holds. Raises ValueError if it lacks them."""
    from flows.experiments import results_table

    assert claim.source
    text = (DATA / f"{claim.source.comparison}.json").read_text(encoding="utf-8")
    return tuple(
        results_table.differences_by_seed(json.loads(text), claim.source.of, claim.source.less, claim.source.metric)
    )


def summary(method: str) -> str:
    """Return the number of a method's claims by verdict: `2 reproduced, 1 open`; empty without any."""
    counts = Counter(claim.verdict for claim in read(method))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
