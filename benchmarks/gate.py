"""What the gate lets through: `python benchmarks/gate.py [--runs 400] [--nights 200]`, in minutes on one core.

Every night a candidate is judged by the very code of `ratchet promote` (`tasks.core.gate`), with the default rules. A model is
its losses on the items of a gate set as the default profile has it: 45 examples in 30 modules, 8 general texts; and on one of
four times that size. Two models differ on an item by a true difference, a part of its group and a part of its own, with heavy
tails (Student's t with 4 degrees of freedom), as wide as base and tuned model differ in the default profile: an interval of 0.02
either way on the domain, of 0.01 on general text.

  a/a         nothing changes in truth: runs of so many nights in which anything was promoted (at most α = 5 %)
  regression  better here, but worse elsewhere by twice the margin: nights on which it was blocked, the first look and later ones
  creep       each night better here and worse elsewhere by 0.8 of a margin than the night before: how far it gets
  skewed      no better on average, but so that most modules gain a little and a few lose much (a centred exponential between groups):
              nights on which that is promoted, which symmetric bounds do not promise at the level of the look
  narrow      a regression of twice the margin on average, all of it in a part of the texts: nights on which it was blocked
  power       a real gain here and no change elsewhere: how often one night promotes it, at looks 1, 10 and 100

Shares stand with exact 95 % intervals.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core import gate
from tasks.core.gate import Bar, GateParams
from tasks.core.records import Result
from tasks.core.statistics import proportion

RULES = GateParams()
MARGIN = RULES.margins["general"]
LOOKS = (1, 10, 100)
SPREADS = {"domain": 0.04, "general": 0.008}
"""What the part of a group, and that of an item, scatters by, in nats per token."""
GAINS = (0.01, 0.02, 0.03, 0.05, 0.1)
PARTS = (0.5, 0.25, 0.125)
"""Of the texts, those that carry a narrow regression."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
"""What groups differ by in truth, beside the mean: of mean 0 and standard deviation 1."""


def heavy(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Student's t with 4 degrees of freedom."""
    return rng.standard_t(4, size) / 2**0.5


def skewed(rng: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Most a little better, a few much worse."""
    return rng.exponential(1.0, size) - 1.0


@dataclass(frozen=True)
class GateSet:
    """How many items of each measure there are, and in how many groups."""

    name: str
    items: dict[str, tuple[int, int]]

    def model(
        self, worse: dict[str, float], rng: np.random.Generator, draw: Draw = heavy, part: float = 1.0
    ) -> list[Result]:
        """A model that is worse than the champion by so much in truth; elsewhere all of it in this part of the groups."""
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
        own = worse / part * hit + SPREADS[measure] * draw(rng, (groups,))
        change = own[owners] + SPREADS[measure] * heavy(rng, (count,))
        for n in range(count):
            yield Result(
                measure, str(n), str(owners[n]), None, float(tokens[n] * (2 + change[n])), int(tokens[n]), 1, "", ""
            )

    def champion(self) -> Bar:
        """The model that others differ from."""
        rows = self.model(dict.fromkeys(self.items, 0.0), np.random.default_rng(0))
        return Bar(
            "champion", [Result(r.measure, r.item, r.group, None, 2.0 * r.tokens, r.tokens, 1, "", "") for r in rows]
        )


SETS = (
    GateSet("as the default profile's", {"domain": (45, 30), "general": (8, 8)}),
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
    """Whether a candidate that is worse by so much, here and elsewhere, is promoted at this look."""
    candidate = held.model({"domain": worse[0], "general": worse[1]}, rng, draw, part)
    return gate.judge(candidate, bars[-1], bars, look, RULES).verdict == "promoted"


def any_promoted(held: GateSet, nights: int, rng: np.random.Generator) -> bool:
    """Whether a run of nights without a change promotes anything."""
    bars = [held.champion()]
    return any(promotes(held, bars, (0.0, 0.0), look, rng) for look in range(1, nights + 1))


def crept(held: GateSet, nights: int, rng: np.random.Generator) -> float:
    """How far the general loss got from where it began when each night adds 0.8 of a margin."""
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


def share(found: Sequence[bool]) -> str:
    """A share in per cent, with its exact interval."""
    estimate = proportion(sum(found), len(found))
    return f"{100 * estimate.value:5.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for held in SETS:
        rng, bars = np.random.default_rng(asked.seed), [held.champion()]
        print(f"gate set {held.name}: {held.items}, items (and groups) of each measure")
        found = [any_promoted(held, asked.nights, rng) for _ in range(asked.runs)]
        print(f"  a/a: {share(found)} of {asked.runs} runs of {asked.nights} nights promoted anything")
        for look in LOOKS:
            blocked = [not promotes(held, bars, (-0.2, 2 * MARGIN), look, rng) for _ in range(asked.runs)]
            print(f"  regression of twice the margin, look {look}: {share(blocked)} blocked")
        for look in LOOKS:
            passed = [promotes(held, bars, (0.0, 0.0), look, rng, skewed) for _ in range(10 * asked.runs)]
            print(
                f"  skewed, look {look}: {share(passed)} promoted; {100 * gate.level(look, RULES.alpha):.2g} % is its level"
            )
        for part in PARTS:
            blocked = [not promotes(held, bars, (-0.2, 2 * MARGIN), 1, rng, part=part) for _ in range(asked.runs)]
            print(f"  narrow, {part:g} of the texts, look 1: {share(blocked)} blocked")
        far = [crept(held, 20, rng) for _ in range(max(1, asked.runs // 20))]
        print(
            f"  creep over 20 nights: to {max(far):.3f} nats/token at most, mean {np.mean(far):.3f}; the margin is {MARGIN}"
        )
        for gain in GAINS:
            power = [share([promotes(held, bars, (-gain, 0.0), n, rng) for _ in range(asked.runs)]) for n in LOOKS]
            print(
                f"  power, gain {gain}: " + "; ".join(f"look {n} {text}" for n, text in zip(LOOKS, power, strict=True))
            )


if __name__ == "__main__":
    main()
