"""Show the results of a comparison: a Markdown table, and an SVG plot of gain against forgetting."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from flows.experiments.results_table import Row, pareto
from tasks.core.statistics import Estimate


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
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
    return "\n".join(text)


def notes() -> str:
    """Return the explanation of the table's columns."""
    return (
        "Means over seeds. Brackets: 95 % intervals. Against the first and at equal domain loss they are of differences paired by "
        "seed (Student's t): what another seed would give. Everywhere else they are a bootstrap over groups of test items, seeds "
        "averaged: what other items would give with these seeds, which alone is no reason to prefer a composition. "
        "Forgetting: general loss less the base's; at equal domain loss: less that of the first, which a side that learns faster reaches "
        "earlier in its schedule. "
        "Peak MB and tokens/s: the middle of the seeds, and from the least to the most of them; tokens/s are over the optimizer steps "
        "alone, of CPU time on a CPU. * no other is better in both."
    )


def _cells(row: Row, best: bool) -> Iterator[str]:
    yield f"{row.name}{' *' if best else ''}"
    yield f"{row.rate:g}"
    yield _shown(row.domain, "")
    yield ", ".join("diverged" if loss is None else f"{loss:.3f}" for loss in row.losses)
    yield _shown(row.against_first, "+") if row.against_first else "—"
    yield _shown(row.on_items, "+") if row.on_items else "—"
    yield _shown(row.forgetting, "+") if row.forgetting else "—"
    yield _shown(row.matched, "+") if row.matched else "—"
    yield _share(row.passed) if row.passed else "—"
    yield f"{row.trainable:,}" + ("" if row.active == row.trainable else f" ({row.active:,} at once)")
    yield _range(row.peak_memory_mb, digits=0)
    yield _range(row.tokens_per_s) if row.tokens_per_s else "—"
    yield f"{row.bytes / 2**20:.2f}"


def _shown(estimate: Estimate, sign: str) -> str:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):  # with one seed
        return f"{estimate.value:{sign}.3f} [no interval]".replace("-", "−")
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]".replace("-", "−")


def _share(passed: Estimate) -> str:
    return f"{100 * passed.value:.1f} [{100 * passed.low:.1f}, {100 * passed.high:.1f}] %".replace("-", "−")


def _range(values: Sequence[float], digits: int = 1) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def plot(rows: Sequence[Row], width: int = 900, height: int = 420) -> str:
    """Plot gain against forgetting as SVG, for rows that have both: a circle with its intervals for each composition, with an area that
    represents its number of trainable parameters.

    Both are differences to the base, paired by item, so that the intervals do not contain the difficulty of the items. To the right of
    the circles there is room for the longest label.
    """
    left, right, bottom, top = 80, width - 420, height - 60, 20
    forgetting = [row.forgetting for row in rows if row.forgetting]
    place_x, bounds_x = _scale(forgetting, left, right)
    place_y, bounds_y = _scale([row.gain for row in rows], bottom, top)
    best, most = pareto(rows), max(row.trainable for row in rows)
    shapes = [
        f'<path d="M{left - 20} {top}V{bottom + 15}H{right + 20}" stroke="#8c959f" fill="none"/>',
        *(f'<text x="{x:.1f}" y="{bottom + 30}" text-anchor="middle">{_plain(value)}</text>' for x, value in bounds_x),
        *(f'<text x="{left - 24}" y="{y + 4:.1f}" text-anchor="end">{_plain(value)}</text>' for y, value in bounds_y),
        f'<text x="{(left + right) / 2}" y="{height - 8}" text-anchor="middle">forgetting: general loss less the base\'s, nats per token →</text>',
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">domain loss less the base\'s, nats per token →</text>',
    ]
    heights = _spread([place_y(row.gain.value) for row in rows], top, bottom)
    for row, kept, beside in zip(rows, forgetting, heights, strict=True):
        x, y = place_x(kept.value), place_y(row.gain.value)
        across = f"M{place_x(kept.low):.1f} {y:.1f}H{place_x(kept.high):.1f}"
        down = f"M{x:.1f} {place_y(row.gain.low):.1f}V{place_y(row.gain.high):.1f}"
        radius = 4 + 12 * (row.trainable / most) ** 0.5
        label = x + radius + 20
        shapes.append(f'<path d="{across}{down}" stroke="#b8c0cc"/>')
        shapes.append(f'<path d="M{x:.1f} {y:.1f}L{label - 3:.1f} {beside:.1f}" stroke="#8c959f" stroke-width="0.5"/>')
        fill = "#1f6feb" if row.name in best else "#b8c0cc"
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" fill-opacity="0.7"/>')
        shapes.append(f'<text x="{label:.1f}" y="{beside + 4:.1f}">{_label(row, kept)}</text>')
    style = "<style>text{font:12px system-ui,sans-serif;fill:#30363d;stroke:#fff;stroke-width:3px;paint-order:stroke}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{style}{"".join(shapes)}</svg>\n'


def save_plot(rows: Sequence[Row], file: Path) -> bool:
    """Write the plot and return True if every row has both figures. Otherwise remove the plot of an earlier comparison."""
    if not all(row.forgetting for row in rows):
        file.unlink(missing_ok=True)
        return False
    file.write_text(plot(rows), encoding="utf-8")
    return True


def _label(row: Row, kept: Estimate) -> str:
    passed = f", pass@1 {_share(row.passed)}" if row.passed else ""
    return f"{escape(row.name)} ({_plain(row.gain.value)}, {_plain(kept.value)}{passed})"


def _plain(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _spread(heights: Sequence[float], top: float, bottom: float, gap: float = 15) -> list[float]:
    """Move heights apart so that no two lines of text overlap; their order stays."""
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
    """Return a function from a figure to its position between `start` and `end`, and the positions of the smallest and the largest figure.

    A bound that does not exist is drawn at the edge.
    """
    bounds = [x for e in estimates for x in (e.low, e.value, e.high) if math.isfinite(x)]
    low, high = min(bounds), max(bounds)

    def place(value: float) -> float:
        return start + (end - start) * ((min(max(value, low), high) - low) / (high - low) if high > low else 0.5)

    return place, [(place(value), value) for value in sorted({low, high})]


def diverged_lines(diverged: Mapping[str, Sequence[int]], best: Mapping[str, float]) -> list[str]:
    """Return lines that name the diverged trainings of each composition, and the effect on its figures."""
    return [
        f"{name}: diverged at learning rate {best[name]:g} with seed {', '.join(map(str, seeds))}. The figures are of the other seeds, if there "
        "are any, and differences of those that both sides have: they do not say how often it diverges. Smaller `learning_rates` may "
        "not."
        for name, seeds in diverged.items()
        if seeds
    ]


def base_line(losses: Mapping[str, Estimate]) -> str:
    """Return the line below the table: the losses before any training."""
    return "Base: " + ", ".join(f"{name} loss {_shown(loss, '')}" for name, loss in losses.items()) + " nats per token."
