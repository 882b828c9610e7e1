"""What came of a comparison: a line for each composition, as a table and as a plot of gain against forgetting."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import comparison
from flows.comparison import MEASURES, Recipe, Rows, Trial
from tasks.core.statistics import Bootstrap, Estimate, over_seeds, ratio, ratio_difference


@dataclass(frozen=True)
class Line:
    """A composition in the table. Figures are means over seeds; where nothing else is said, their intervals come from resampling
    groups of test items, seeds averaged."""

    name: str
    rate: float
    losses: list[float]
    """Domain loss by seed."""
    domain: Estimate
    gain: Estimate
    """Domain loss less the base's, paired by item; negative is better."""
    against_first: Estimate | None
    """Domain loss less that of the recipe's first composition, paired by seed: the interval says what another seed would give."""
    on_items: Estimate | None
    """The same difference paired by item: the interval says what other test items would give, with these very seeds."""
    forgetting: Estimate
    """General loss less the base's, paired by item; positive is worse."""
    matched: Estimate | None
    """General loss less that of the recipe's first composition where both have the same domain loss, over seeds. Only known
    where both losses are measured at every checkpoint, as `pretrain` does."""
    passed: Estimate | None
    sandbox: int | None
    """The level of the sandbox in which answers were judged."""
    trainable: int
    active: int
    """The most of them that move in one step."""
    peak_memory_mb: list[float]
    """By seed."""
    tokens_per_s: list[float]
    """By seed, over the optimizer steps alone: of CPU time on a CPU and of the clock elsewhere."""
    bytes: int


def lines(recipe: Recipe, best: Mapping[str, float], results: Mapping[Trial, Rows]) -> list[Line]:
    """The table."""
    base = results[Trial(None, 0.0, 0, True)]
    runs = {
        name: [results[Trial(name, best[name], seed, True)] for seed in range(recipe.seeds)]
        for name in recipe.compositions
    }
    first = next(iter(recipe.compositions))
    measure = MEASURES[recipe.stage]
    items = {name: [_items(row["folder"], measure) for row in rows] for name, rows in runs.items()}
    before, general = (_items(base["folder"], name) for name in (measure, "general"))
    losses = {name: [row["metrics"][measure]["loss"] for row in rows] for name, rows in runs.items()}
    made = []
    for name, rows in runs.items():
        domain, kept = _mean(items[name]), _mean([_items(row["folder"], "general") for row in rows])
        passes = _mean([_items(row["folder"], "pass@1") for row in rows])
        made.append(
            Line(
                name=name,
                rate=best[name],
                losses=losses[name],
                domain=ratio(*_columns(domain)),
                gain=_difference(before, domain),
                against_first=None if name == first else paired(losses[first], losses[name]),
                on_items=None if name == first else _difference(_mean(items[first]), domain),
                forgetting=_difference(general, kept),
                matched=None if name == first else matched(runs[first], rows),
                passed=ratio(*_columns(passes)) if passes else None,
                sandbox=rows[0]["metrics"]["settings"]["sandbox"],
                trainable=rows[0]["trainable"],
                active=rows[0]["active"],
                peak_memory_mb=[row["peak_memory_mb"] for row in rows],
                tokens_per_s=[row["tokens_per_s"] for row in rows if row["tokens_per_s"]],
                bytes=rows[0]["bytes"],
            )
        )
    return made


FIGURES = "figures.json"
"""The file beside a comparison's table that holds what the table is made of, training by training."""


def figures(recipe: Recipe, results: Mapping[Trial, Rows]) -> list[Rows]:
    """What was measured of the base and of each training on the test sets, and both losses at every checkpoint where they are known."""
    measures = {"loss": MEASURES[recipe.stage], "general": "general", "pass@1": "pass@1"}
    kept = []
    for trial, row in results.items():
        if trial.test:
            items = {name: _items(row["folder"], measure) for name, measure in measures.items()}
            figure: Rows = {"composition": trial.composition, "seed": trial.seed, "rate": trial.rate}
            figure |= {name: round(_level(found), 6) for name, found in items.items() if found}
            if row.get("validation") is not None:
                figure["validation"] = row["validation"]
            if {"domain", "general"} <= row.get("measured", {}).keys():
                figure["course"] = _course(row)
            kept.append(figure)
    return kept


def keep(name: str, rows: Sequence[Rows]) -> Path:
    """Write figures of a comparison, a line for each training, and give back the folder."""
    folder = comparison.FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(json.dumps(row) for row in rows)
    (folder / FIGURES).write_text(f"[\n{body}\n]\n", encoding="utf-8")
    return folder


def by_seed(rows: Sequence[Rows], of: str, less: str, metric: str) -> list[float]:
    """The metric of composition `of` less that of `less`, with each seed that both were trained with; `matched` is the general
    loss where both first come down to the same domain loss. Raises ValueError naming what there is."""
    sides = [{row["seed"]: row for row in rows if row["composition"] == name} for name in (of, less)]
    pairs = [(sides[0][seed], sides[1][seed]) for seed in sorted(sides[0].keys() & sides[1].keys())]
    name = "course" if metric == "matched" else metric
    if not pairs or any(name not in row for pair in pairs for row in pair):
        known = {str(row["composition"]): [key for key in row if key not in ("composition", "seed")] for row in rows}
        there = "; ".join(f"{composition}: {', '.join(names)}" for composition, names in known.items())
        raise ValueError(f"No seed has {name} of both {of} and {less}. There are {there}.")
    if metric == "matched":
        return [round(_matched(two[name], one[name]), 4) for one, two in pairs]
    return [round(one[name] - two[name], 4) for one, two in pairs]


def paired(first: Sequence[float], other: Sequence[float]) -> Estimate:
    """How much higher `other` is than `first`, whose figures stand in the order of the same seeds, over seeds."""
    return over_seeds([after - before for before, after in zip(first, other, strict=True)])


def matched(first: Sequence[Rows], other: Sequence[Rows]) -> Estimate | None:
    """How much more `other` forgets than `first` at equal domain loss, in nats per token: the runs of each seed are held against
    each other at the lowest validation loss on the domain that both reach."""
    if not all({"domain", "general"} <= row["measured"].keys() for row in (*first, *other)):
        return None
    return over_seeds([_matched(_course(one), _course(two)) for one, two in zip(first, other, strict=True)])


Course = list[tuple[float, float]]
"""Domain and general loss at each checkpoint, from before training on."""


def _course(row: Rows) -> Course:
    domain, general = (row["measured"][name] for name in ("domain", "general"))
    return [(here, there) for (_, here), (_, there) in zip(domain, general, strict=True)]


def _matched(first: Course, other: Course) -> float:
    level = max(min(domain for domain, _ in course) for course in (first, other))
    return _general_at(level, other) - _general_at(level, first)


def _general_at(level: float, course: Course) -> float:
    """The general loss where the course first comes down to this domain loss, between two checkpoints on a straight line."""
    (before, kept), *rest = course
    for after, general in rest:
        if before > level >= after:
            return kept + (general - kept) * (before - level) / (before - after)
        before, kept = after, general
    return course[0][1]  # it never came below where it started


Items = dict[str, tuple[float, int, str]]
"""Test item → (nats, tokens, group)."""


def _items(folder: str, measure: str) -> Items:
    import polars as pl

    frame = pl.read_parquet(Path(folder) / "results.parquet").filter(pl.col("measure") == measure)
    return {row["item"]: (row["value"], row["tokens"], row["group"]) for row in frame.to_dicts()}


def _mean(seeds: Sequence[Items]) -> Items:
    """The items with the mean of their nats over seeds."""
    return {
        item: (statistics.fmean(found[item][0] for found in seeds), tokens, group)
        for item, (_, tokens, group) in seeds[0].items()
    }


def _columns(items: Items) -> tuple[list[float], list[int], list[str]]:
    rows = [items[item] for item in sorted(items)]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _level(items: Items) -> float:
    return sum(nats for nats, _, _ in items.values()) / sum(tokens for _, tokens, _ in items.values())


def _difference(before: Items, after: Items) -> Estimate:
    nats, tokens, groups = _columns(before)
    return ratio_difference(nats, _columns(after)[0], tokens, groups, Bootstrap())


def pareto(table: Iterable[Line]) -> set[str]:
    """The compositions that no other beats in both domain loss and forgetting."""
    rows = list(table)

    def beaten(line: Line) -> bool:
        return any(
            other.domain.value <= line.domain.value
            and other.forgetting.value <= line.forgetting.value
            and (other.domain.value, other.forgetting.value) != (line.domain.value, line.forgetting.value)
            for other in rows
        )

    return {line.name for line in rows if not beaten(line)}


def table(rows: Sequence[Line]) -> str:
    """The table as Markdown."""
    best = pareto(rows)
    levels = sorted({str(row.sandbox) for row in rows if row.passed})
    head = [
        "",
        "rate",
        "domain loss",
        "by seed",
        "against the first, over seeds",
        "over items",
        "forgetting",
        "at equal domain loss",
        f"pass@1 (sandbox level {', '.join(levels)})" if levels else "pass@1",
        "trains",
        "peak MB",
        "tokens/s",
        "MB",
    ]
    body = [list(_cells(row, row.name in best)) for row in rows]
    text = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body]]
    notes = (
        "Means over seeds. Brackets: 95 % intervals. Against the first and at equal domain loss they are of differences paired by "
        "seed (Student's t): what another seed would give. Everywhere else they are a bootstrap over groups of test items, seeds "
        "averaged: what other items would give with these seeds, which alone is no reason to prefer a composition. "
        "Forgetting: general loss less the base's; at equal domain loss: less that of the first. "
        "Peak MB and tokens/s: the middle of the seeds, and from the least to the most of them; tokens/s are over the optimizer steps "
        "alone, of CPU time on a CPU. * no other is better in both."
    )
    return "\n".join([*text, "", notes])


def _cells(row: Line, best: bool) -> Iterator[str]:
    yield f"{row.name}{' *' if best else ''}"
    yield f"{row.rate:g}"
    yield _shown(row.domain, "")
    yield ", ".join(f"{loss:.3f}" for loss in row.losses)
    yield _shown(row.against_first, "+") if row.against_first else "—"
    yield _shown(row.on_items, "+") if row.on_items else "—"
    yield _shown(row.forgetting, "+")
    yield _shown(row.matched, "+") if row.matched else "—"
    yield _share(row.passed) if row.passed else "—"
    yield f"{row.trainable:,}" + ("" if row.active == row.trainable else f" ({row.active:,} at once)")
    yield _range(row.peak_memory_mb, digits=0)
    yield _range(row.tokens_per_s) if row.tokens_per_s else "—"
    yield f"{row.bytes / 2**20:.2f}"


def _shown(estimate: Estimate, sign: str) -> str:
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]".replace("-", "−")


def _share(passed: Estimate) -> str:
    return f"{100 * passed.value:.1f} [{100 * passed.low:.1f}, {100 * passed.high:.1f}] %".replace("-", "−")


def _range(values: Sequence[float], digits: int = 1) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def of_base(results: Mapping[Trial, Rows], stage: str) -> str:
    """What the table is to be read against: the losses before any training."""
    folder = results[Trial(None, 0.0, 0, True)]["folder"]
    measures = {"domain": MEASURES[stage], "general": "general"}
    losses = {name: ratio(*_columns(_items(folder, measure))) for name, measure in measures.items()}
    return "Base: " + ", ".join(f"{name} loss {_shown(loss, '')}" for name, loss in losses.items()) + " nats per token."


def plot(rows: Sequence[Line], width: int = 900, height: int = 420) -> str:
    """What each gains against what it forgets, as SVG: a circle a composition, its area by what trains, on a cross of intervals.

    Both are differences to the base, paired by item: how hard the items are is not in their intervals. To the right of the
    circles there is room for the longest label.
    """
    left, right, bottom, top = 80, width - 420, height - 60, 20
    place_x, bounds_x = _scale([row.forgetting for row in rows], left, right)
    place_y, bounds_y = _scale([row.gain for row in rows], bottom, top)
    best, most = pareto(rows), max(row.trainable for row in rows)
    shapes = [
        f'<path d="M{left - 20} {top}V{bottom + 15}H{right + 20}" stroke="#8c959f" fill="none"/>',
        *(f'<text x="{x:.1f}" y="{bottom + 30}" text-anchor="middle">{_plain(value)}</text>' for x, value in bounds_x),
        *(f'<text x="{left - 24}" y="{y + 4:.1f}" text-anchor="end">{_plain(value)}</text>' for y, value in bounds_y),
        f'<text x="{(left + right) / 2}" y="{height - 8}" text-anchor="middle">forgetting: general loss less the base\'s, nats per token →</text>',
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">domain loss less the base\'s, nats per token →</text>',
    ]
    heights = _apart([place_y(row.gain.value) for row in rows], top, bottom)
    for row, beside in zip(rows, heights, strict=True):
        x, y = place_x(row.forgetting.value), place_y(row.gain.value)
        across = f"M{place_x(row.forgetting.low):.1f} {y:.1f}H{place_x(row.forgetting.high):.1f}"
        down = f"M{x:.1f} {place_y(row.gain.low):.1f}V{place_y(row.gain.high):.1f}"
        radius = 4 + 12 * (row.trainable / most) ** 0.5
        label = x + radius + 20
        shapes.append(f'<path d="{across}{down}" stroke="#b8c0cc"/>')
        shapes.append(f'<path d="M{x:.1f} {y:.1f}L{label - 3:.1f} {beside:.1f}" stroke="#8c959f" stroke-width="0.5"/>')
        fill = "#1f6feb" if row.name in best else "#b8c0cc"
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" fill-opacity="0.7"/>')
        shapes.append(f'<text x="{label:.1f}" y="{beside + 4:.1f}">{_label(row)}</text>')
    style = "<style>text{font:12px system-ui,sans-serif;fill:#30363d;stroke:#fff;stroke-width:3px;paint-order:stroke}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{style}{"".join(shapes)}</svg>\n'


def _label(row: Line) -> str:
    passed = f", pass@1 {_share(row.passed)}" if row.passed else ""
    return f"{row.name} ({_plain(row.gain.value)}, {_plain(row.forgetting.value)}{passed})"


def _plain(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _apart(heights: Sequence[float], top: float, bottom: float, gap: float = 15) -> list[float]:
    """These heights, moved as far as lines of text need so that no two overlap, in the same order downwards."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed: dict[int, float] = {}
    above = top - gap
    for number in order:
        above = placed[number] = max(heights[number], above + gap)
    below = bottom + gap
    for number in reversed(order):
        below = placed[number] = min(placed[number], below - gap)
    return [placed[number] for number in range(len(heights))]


def _scale(
    estimates: Sequence[Estimate], start: float, end: float
) -> tuple[Callable[[float], float], list[tuple[float, float]]]:
    """From a figure to its place between `start` and `end`, and the places of the least and the largest figure drawn.

    A bound that does not exist is drawn at the edge.
    """
    bounds = [x for e in estimates for x in (e.low, e.value, e.high) if math.isfinite(x)]
    low, high = min(bounds), max(bounds)

    def place(value: float) -> float:
        return start + (end - start) * ((min(max(value, low), high) - low) / (high - low) if high > low else 0.5)

    return place, [(place(value), value) for value in sorted({low, high})]
