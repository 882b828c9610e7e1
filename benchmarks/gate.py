"""Error rates of the promotion gate: `python benchmarks/gate.py [--runs 400] [--nights 200]`, in minutes on one core.

Every night a simulated candidate is judged by the code of `ratchet promote` (`tasks.core.promotion.gate`), with the default rules. A model is
simulated by its losses on the items of a gate set of the size in profile `workstation`, 45 examples in 30 modules and 8 general texts, and of
four times that size. Two models differ on an item by a true difference, a random effect of its group and one of its own, with heavy
tails (Student's t with 4 degrees of freedom), as widely as base and tuned model differ there: an interval of ±0.02
on the domain, of ±0.01 on general text.

  a/a         no true change: share of runs of so many nights in which anything was promoted (at most α = 5 %)
  regression  better on the domain, worse on general text by twice the margin: nights on which it was blocked, by look
  creep       each night better on the domain and worse on general text by 0.8 of a margin: total loss of the promoted models
  skewed      no better on average: most modules gain a little and a few lose much (a centred exponential between groups);
              nights on which it is promoted, which symmetric bounds do not limit to the level of the look
  narrow      a regression of twice the margin on average, all of it in a part of the texts: nights on which it was blocked
  power       a real gain on the domain and no change elsewhere: share of nights that promote it, at looks 1, 10 and 100

Shares are printed with exact 95 % intervals.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.promotion import gate
from tasks.core.promotion.gate import Bar, GateConfig
from tasks.core.records import Result
from tasks.core.statistics import proportion

RULES = GateConfig()
MARGIN = RULES.margins["general"]
LOOKS = (1, 10, 100)
SPREADS = {"domain": 0.04, "general": 0.008}
"""Scale of the random effects of groups and of items, in nats per token."""
GAINS = (0.01, 0.02, 0.03, 0.05, 0.1)
PARTS = (0.5, 0.25, 0.125)
"""Shares of the texts that carry a narrow regression."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
"""Draws random effects of mean 0 and standard deviation 1."""


def heavy(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw from Student's t with 4 degrees of freedom."""
    return rng.standard_t(4, size) / 2**0.5


def skewed(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw effects: most of them a little better, a few much worse."""
    return rng.exponential(1.0, size) - 1.0


@dataclass(frozen=True)
class GateSet:
    """A gate set: for each measure its number of items and of groups."""

    name: str
    items: dict[str, tuple[int, int]]

    def model(
        self, worse: dict[str, float], rng: np.random.Generator, draw: Draw = heavy, part: float = 1.0
    ) -> list[Result]:
        """Simulate a model that is truly `worse` than the champion; on general text only in this part of the groups."""
        parts = {measure: part if measure == "general" else 1.0 for measure in self.items}
        return [
            row
            for measure, sizes in self.items.items()
            for row in self._rows(measure, sizes, worse[measure], rng, draw, parts[measure])
        ]

    def _rows(
        self, measure: str, sizes: tuple[int, int], worse: float, rng: np.random.Generator, draw: Draw, part: float
    ) -> Iterator[Result]:
        count, groups = sizes
        tokens = np.random.default_rng(0).integers(30, 400, count)  # the items are the same every night
        owners = np.arange(count) % groups
        hit = rng.permutation(groups) < part * groups
        by_group = worse / part * hit + SPREADS[measure] * draw(rng, (groups,))
        change = by_group[owners] + SPREADS[measure] * heavy(rng, (count,))
        for n in range(count):
            yield Result(
                measure, str(n), str(owners[n]), None, float(tokens[n] * (2 + change[n])), int(tokens[n]), 1, "", ""
            )

    def champion(self) -> Bar:
        """Return the champion, the model that others are compared with."""
        rows = self.model(dict.fromkeys(self.items, 0.0), np.random.default_rng(0))
        return Bar(
            "champion", [Result(r.measure, r.item, r.group, None, 2.0 * r.tokens, r.tokens, 1, "", "") for r in rows]
        )


SETS = (
    GateSet("as profile workstation's", {"domain": (45, 30), "general": (8, 8)}),
    GateSet("four times that", {"domain": (180, 120), "general": (32, 32)}),
)


def promotes(
    held: GateSet,
    bars: Sequence[Bar],
    worse: tuple[float, float],
    look: int,
    rng: np.random.Generator,
    draw: Draw = heavy,
    part: float = 1.0,
) -> bool:
    """Return True if a candidate that is `worse` by these amounts (domain, general) is promoted at this look."""
    candidate = held.model({"domain": worse[0], "general": worse[1]}, rng, draw, part)
    return gate.judge(candidate, bars[-1], bars, look, RULES).verdict == "promoted"


def any_promoted(held: GateSet, nights: int, rng: np.random.Generator) -> bool:
    """Return True if anything is promoted in a run of nights without a true change."""
    bars = [held.champion()]
    return any(promotes(held, bars, (0.0, 0.0), look, rng) for look in range(1, nights + 1))


def crept(held: GateSet, nights: int, rng: np.random.Generator) -> float:
    """Return the increase of the general loss when each night adds 0.8 of a margin."""
    bars, reached, look = [held.champion()], 0.0, 1
    for night in range(1, nights + 1):
        truth = {"domain": -0.1 * night, "general": 0.8 * MARGIN * night}
        candidate = held.model(truth, rng)
        if gate.judge(candidate, bars[-1], bars, look, RULES).verdict == "promoted":
            bars.append(Bar(f"version {night}", candidate))
            reached, look = truth["general"], 1
        else:
            look += 1
    return reached


def share(decisions: Sequence[bool]) -> str:
    """Format a share in per cent, with its exact interval."""
    estimate = proportion(sum(decisions), len(decisions))
    return f"{100 * estimate.value:5.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for held in SETS:
        rng, bars = np.random.default_rng(options.seed), [held.champion()]
        print(f"gate set {held.name}: {held.items}, items (and groups) of each measure")
        promoted = [any_promoted(held, options.nights, rng) for _ in range(options.runs)]
        print(f"  a/a: {share(promoted)} of {options.runs} runs of {options.nights} nights promoted anything")
        for look in LOOKS:
            blocked = [not promotes(held, bars, (-0.2, 2 * MARGIN), look, rng) for _ in range(options.runs)]
            print(f"  regression of twice the margin, look {look}: {share(blocked)} blocked")
        for look in LOOKS:
            passed = [promotes(held, bars, (0.0, 0.0), look, rng, skewed) for _ in range(10 * options.runs)]
            print(
                f"  skewed, look {look}: {share(passed)} promoted; {100 * gate.level(look, RULES.alpha):.2g} % is its level"
            )
        for part in PARTS:
            blocked = [not promotes(held, bars, (-0.2, 2 * MARGIN), 1, rng, part=part) for _ in range(options.runs)]
            print(f"  narrow, {part:g} of the texts, look 1: {share(blocked)} blocked")
        far = [crept(held, 20, rng) for _ in range(max(1, options.runs // 20))]
        print(
            f"  creep over 20 nights: to {max(far):.3f} nats/token at most, mean {np.mean(far):.3f}; the margin is {MARGIN}"
        )
        for gain in GAINS:
            power = [share([promotes(held, bars, (-gain, 0.0), n, rng) for _ in range(options.runs)]) for n in LOOKS]
            print(
                f"  power, gain {gain}: " + "; ".join(f"look {n} {text}" for n, text in zip(LOOKS, power, strict=True))
            )


if __name__ == "__main__":
    main()
