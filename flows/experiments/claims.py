"""Read the ledger of claims: the statements of papers about their methods, and the results of our runs. `docs/claims/` has one file for each method, or for a comparison of several methods."""

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
"""The folder with one row for each training of the comparisons on which claims are based."""
Verdict = Literal["reproduced", "not reproduced", "not decidable at this size", "open"]
CHANCE = 0.8
"""The power for which `detectable` is computed."""


@dataclass(frozen=True)
class FigureSource:
    """The comparison from which `docs/ledger.py` takes figures by seed."""

    comparison: str
    """The name of a file in `docs/claims/data/`."""
    of: str
    """A composition in it, and in `less` the one with which it is compared."""
    less: str
    metric: str
    """A figure of `results_table.differences_by_seed`."""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper, in the form in which it is tested here. `changed` lists what was not written down before the runs."""

    claim: str
    """The paper's statement in our words, or our expectation."""
    metric: str
    """The quantity that is measured."""
    control: str
    """The composition with which it is compared, tuned in the same way."""
    command: str
    """The command that repeats the measurement."""
    found: str
    """The figures; empty while the claim is open."""
    verdict: Verdict
    seeds: int = 0
    """Number of trainings of each side; 0 if the quantity does not depend on seeds."""
    rounds: int = 0
    """Number of measurements of time and memory, for a claim about those."""
    steps: str = ""
    """Length of the trainings in optimizer steps."""
    per_seed: tuple[float, ...] = ()
    """The metric for each seed; for a loss, minus the control's. The verdict follows from its interval."""
    per_round: tuple[float, ...] = ()
    """The metric of each separately measured round, as a multiple of the control's. The verdict follows from its interval."""
    source: FigureSource | None = None
    """The comparison from which `per_seed` comes; None for figures that were typed."""
    typed: str = ""
    """The reason why figures were typed, if no trainings are kept."""
    origin: Literal["paper", "ours"] = "paper"
    """`ours` for an expectation about our own design, not the paper's."""
    side: Literal["below", "above"] = "below"
    """The side of `bound` on which the metric lies according to the claim."""
    bound: float = 0.0
    planned: float | None = None
    """The smallest distance from `bound` to be detected with 80 % power, written down before the run; None if none was."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds or rounds after which the figures were looked at and more were added; empty if the number was fixed before."""
    changed: tuple[str, ...] = ()
    """Decisions and changes after the claim had been written down: when, what, why."""

    def interval(self) -> Estimate | None:
        """Return the mean of the figures by seed or by round with its 95 % interval; None without any.

        It is Student's, or if seeds were added after a look, one that is valid at any number of seeds. Rounds have the same kind of interval, not the
        range from minimum to maximum: the range of four rounds contains the median of all possible rounds with a probability of only 7/8.
        """
        from tasks.core import statistics  # numpy: not needed to list methods

        figures = self.per_seed or self.per_round
        if not figures:
            return None
        return statistics.over_seeds_at_any_time(figures) if self.looks else statistics.over_seeds(figures)

    def implied(self) -> Verdict | None:
        """Return the verdict that follows from the interval, which is completely on the claim's side of `bound`, on the other side, or neither."""
        mean = self.interval()
        if mean is None:
            return None
        if mean.low <= self.bound <= mean.high:
            return "not decidable at this size"
        return "reproduced" if (mean.high < self.bound) == (self.side == "below") else "not reproduced"

    def p_value(self) -> float | None:
        """Return the two-sided p-value of the figures against `bound`: 1 if they have no variance, None without any.

        It is that of Student's t test, or if seeds were added after a look, one that stays valid with a look after each seed.
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
        """Return the smallest distance from `bound` that the test detects with 80 % power, for this number and variance of seeds or rounds.

        The test is Student's, or if seeds were added after a look, that of `interval`. The distance is infinite if the interval has no bounds yet.
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
    """Return the figures by seed from a claim's source. Raises ValueError if the source lacks them."""
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
