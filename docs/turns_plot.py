"""Draw the picture of the first page: accuracy of a model by turns of the loop, beside that of its controls.

The figures are those of `benchmarks/loop.py`, as copied by `python docs/ledger.py loop`.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.statistics import Estimate, over_seeds, proportion

FIGURES = Path(__file__).parent / "claims/data/loop.json"
FIRST = "r0"
"""The round that all arms begin with."""
LEAD = "learnable"
NOTHING = "nothing"
"""This arm stays at the first round: all rounds train on the same number of tokens, so without new tasks they are one training."""
LABELS = {
    LEAD: "new tasks where it fails and solves",
    "failures": "as many where it fails",
    "uniform": "as many new tasks, evenly over all kinds",
    "own": "its own answers that are verified",
    NOTHING: "no new tasks: the first round again",
}
"""What a turn adds in each arm."""
CONTROLS = ("uniform", NOTHING)
"""The arms that ignore the model's failures; the band spans them."""
WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 520, 24, 320
STYLE = "text{font:13px system-ui,sans-serif;fill:#30363d}.lead{font-weight:600;fill:#0b57d0}.note{fill:#57606a}"


@dataclass(frozen=True)
class Turns:
    """Accuracy of each arm by round, from r0 on, with an interval of 95 %."""

    arms: Mapping[str, Sequence[Estimate]]
    interval: str
    """The units over which intervals are computed."""


def measured() -> Turns:
    """Return the measured accuracies of the arms that have every round. Raises FileNotFoundError without figures."""
    by_name: dict[str, dict[int, tuple[float, int]]] = defaultdict(dict)
    for row in json.loads(FIGURES.read_text(encoding="utf-8")):
        by_name[row["composition"]][row["seed"]] = row["accuracy"], row["items"]
    seeds = by_name[FIRST].keys()
    last = max(int(name.rpartition(" r")[2]) for name in by_name if " r" in name)
    names = {arm: [FIRST, *(f"{arm} r{number}" for number in range(1, last + 1))] for arm in LABELS if arm != NOTHING}
    arms = {
        arm: [_estimate(list(by_name[name].values())) for name in rounds]
        for arm, rounds in names.items()
        if all(by_name[name].keys() == seeds for name in rounds)
    }
    arms[NOTHING] = [arms[LEAD][0]] * (last + 1)
    if len(seeds) > 1:
        return Turns(arms, f"Means of {len(seeds)} seeds, with intervals of 95 % over them (Student's t).")
    return Turns(arms, f"One seed, with exact intervals of 95 % over its {arms[LEAD][0].n} tasks.")


def _estimate(by_seed: Sequence[tuple[float, int]]) -> Estimate:
    (share, items), *others = by_seed
    return over_seeds([each for each, _ in by_seed]) if others else proportion(round(share * items), items)


def picture(turns: Turns) -> str:
    """Return the SVG: the lead with its interval, the other arms, and the band between the worst and the best control."""
    lead, rounds = turns.arms[LEAD], len(turns.arms[LEAD])
    others = {arm: [one.value for one in course] for arm, course in turns.arms.items() if arm != LEAD}
    controls = [course for arm, course in others.items() if arm in CONTROLS]
    highest = max(
        min(one.high, 1.0) if arm == LEAD else one.value for arm, course in turns.arms.items() for one in course
    )
    ceiling = min(
        0.1 * (int(10 * highest) + 1), 1.0
    )  # equal seeds have no bounds, and few may have some beyond all tasks

    def x(number: int) -> float:
        return LEFT + (RIGHT - LEFT) * number / (rounds - 1)

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / ceiling

    def points(course: Sequence[float]) -> list[str]:
        return [f"{x(number):.1f},{y(share):.1f}" for number, share in enumerate(course)]

    least, most = (points([bound(shares) for shares in zip(*controls, strict=True)]) for bound in (min, max))
    shapes = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for tick in range(round(10 * ceiling) + 1):
        height = y(tick / 10)
        shapes.append(f'<path d="M{LEFT} {height:.1f}H{RIGHT}" stroke="#d8dee4"/>')
        shapes.append(f'<text class="note" x="{LEFT - 12}" y="{height + 4:.1f}" text-anchor="end">{10 * tick} %</text>')
    shapes.append(f'<polygon points="{" ".join([*most, *reversed(least)])}" fill="#8c959f" fill-opacity="0.22"/>')
    shapes += [
        f'<polyline points="{" ".join(points(course))}" fill="none" stroke="#8c959f" stroke-dasharray="4 3"/>'
        for course in others.values()
    ]
    shapes.append(
        f'<polyline points="{" ".join(points([one.value for one in lead]))}" fill="none" stroke="#0b57d0" stroke-width="2.5"/>'
    )
    for number, one in enumerate(lead):
        place, name = x(number), f"turn {number}" if number else "first round"
        shapes.append(f'<path d="M{place:.1f} {y(max(one.low, 0)):.1f}V{y(min(one.high, 1.0)):.1f}" stroke="#0b57d0"/>')
        shapes.append(f'<circle cx="{place:.1f}" cy="{y(one.value):.1f}" r="4.5" fill="#0b57d0"/>')
        shapes.append(f'<text class="note" x="{place:.1f}" y="{BOTTOM + 24}" text-anchor="middle">{name}</text>')
    shapes += _labels({arm: (y(course[-1].value), course[-1].value) for arm, course in turns.arms.items()})
    caption = (
        "Share of held-out tasks that the model solves. Every round of every arm trains on as many tokens.",
        turns.interval,
    )
    shapes += [
        f'<text class="note" x="{LEFT}" y="{BOTTOM + 52 + 18 * number}">{text}</text>'
        for number, text in enumerate(caption)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>'
    return "\n".join([head, *shapes, "</svg>\n"])


def _labels(ends: Mapping[str, tuple[float, float]], gap: float = 18) -> list[str]:
    """Return the labels of the arms at the ends of their lines, moved down where two would overlap."""
    lines, below = [], float("-inf")
    for arm, (height, share) in sorted(ends.items(), key=lambda end: end[1][0]):
        below = max(height, below + gap)
        style = ' class="lead"' if arm == LEAD else ""
        lines.append(f'<text{style} x="{RIGHT + 14}" y="{below + 4:.1f}">{100 * share:.0f} % {LABELS[arm]}</text>')
    return lines
