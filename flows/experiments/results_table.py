"""Compute the results of a comparison: a row for each composition, and the figures of each training."""

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.experiments import trial_store
from flows.experiments.recipes import MEASURES, Figures, Recipe, Trial
from tasks.core.statistics import Bootstrap, Estimate, over_seeds, ratio, ratio_difference


@dataclass(frozen=True)
class Row:
    """A composition in the table. Figures are means over seeds. Unless a field says otherwise, their intervals come from
    resampling groups of test items, with seeds averaged."""

    name: str
    rate: float
    losses: list[float | None]
    """Domain loss by seed; None for a diverged training, which is left out of all other figures."""
    domain: Estimate
    gain: Estimate
    """Domain loss minus the base's, paired by item. Negative is better."""
    against_first: Estimate | None
    """Domain loss minus that of the recipe's first composition, paired by seed. The interval covers other seeds."""
    on_items: Estimate | None
    """The same difference, paired by item. The interval covers other test items, with the same seeds."""
    forgetting: Estimate | None
    """General loss minus the base's, paired by item. Positive is worse. None without general texts, which are optional."""
    matched: Estimate | None
    """General loss minus that of the recipe's first composition at equal domain loss, over seeds. It is known only if both losses are
    measured at every checkpoint, as in `pretrain`."""
    passed: Estimate | None
    sandbox: int | None
    """The level of the sandbox in which answers were judged."""
    trainable: int
    active: int
    """The largest number of trainable parameters that change in one step."""
    peak_memory_mb: list[float]
    """By seed."""
    tokens_per_s: list[float]
    """By seed, for the optimizer steps only, from CPU time on a CPU and from wall-clock time elsewhere."""
    bytes: int


def diverged(recipe: Recipe, best: Mapping[str, float], results: Mapping[Trial, Figures]) -> dict[str, list[int]]:
    """Return the seeds of each composition whose trained model has a loss that is not finite."""

    def is_number(seed: int, name: str, measure: str) -> bool:
        items = _items(results[Trial(name, best[name], seed, True)]["folder"], measure)
        return all(math.isfinite(nats) for nats, _, _ in items.values())

    measures = MEASURES[recipe.stage], "general"
    return {
        name: [seed for seed in recipe.seeds if not all(is_number(seed, name, measure) for measure in measures)]
        for name in recipe.compositions
    }


def rows(recipe: Recipe, best: Mapping[str, float], results: Mapping[Trial, Figures]) -> list[Row]:
    """Return the rows of the table, without the trainings that diverged. Raises ValueError if all did."""
    base, without = results[Trial(None, 0.0, 0, True)], diverged(recipe, best, results)
    by_seed = {
        name: {seed: results[Trial(name, best[name], seed, True)] for seed in recipe.seeds if seed not in without[name]}
        for name in recipe.compositions
    }
    if not any(by_seed.values()):
        raise ValueError("Every training that was measured diverged. Try smaller values of `learning_rates`.")
    first = next(iter(recipe.compositions))
    measure = MEASURES[recipe.stage]
    before, general = (_items(base["folder"], name) for name in (measure, "general"))
    table = []
    for name, runs in by_seed.items():
        if not runs:
            continue
        trainings = list(runs.values())
        both = [] if name == first else [seed for seed in runs if seed in by_seed[first]]
        pair = [[by_seed[side][seed] for seed in both] for side in (first, name)]
        domain, kept, passes = (_mean(_of_all(trainings, each)) for each in (measure, "general", "pass@1"))
        table.append(
            Row(
                name=name,
                rate=best[name],
                losses=[_loss(runs[seed], measure) if seed in runs else None for seed in recipe.seeds],
                domain=ratio(*_columns(domain)),
                gain=_difference(before, domain),
                against_first=paired(*([_loss(row, measure) for row in side] for side in pair)) if both else None,
                on_items=_difference(*(_mean(_of_all(side, measure)) for side in pair)) if both else None,
                forgetting=_difference(general, kept) if general else None,
                matched=matched(*pair) if both else None,
                passed=ratio(*_columns(passes)) if passes else None,
                sandbox=trainings[0]["metrics"]["settings"]["sandbox"],
                trainable=trainings[0]["trainable"],
                active=trainings[0]["active"],
                peak_memory_mb=[row["peak_memory_mb"] for row in trainings],
                tokens_per_s=[row["tokens_per_s"] for row in trainings if row["tokens_per_s"]],
                bytes=trainings[0]["bytes"],
            )
        )
    return table


FIGURES = "figures.json"
"""The file beside the table of a comparison or a sweep with the figures behind the table, training by training."""
LONGEST = 200
"""Largest number of bytes of a folder's name. Most file systems allow 255."""


def figures(recipe: Recipe, results: Mapping[Trial, Figures]) -> list[Figures]:
    """Return the figures of the base and of each training on the test sets, with both losses at every checkpoint if they are known.

    A figure that is not finite, of a diverged training, is left out. Measures of answers keep their names: `unit_tests score`.
    """
    measures = {"loss": MEASURES[recipe.stage], "general": "general", "pass@1": "pass@1"}
    figure_rows = []
    for trial, row in results.items():
        if trial.test:
            items = {name: _items(row["folder"], measure) for name, measure in measures.items()}
            figure: Figures = {"composition": trial.composition, "seed": trial.seed, "rate": trial.rate}
            levels = {name: round(_level(values), 6) for name, values in items.items() if values}
            figure |= {name: level for name, level in levels.items() if math.isfinite(level)}
            answers = row["metrics"].get("answers", {})
            figure |= {name: told["all"]["value"] for name, told in answers.items() if "all" in told}
            if (validation := row.get("validation")) is not None and math.isfinite(validation):
                figure["validation"] = validation
            if {"domain", "general"} <= row.get("measured", {}).keys():
                course = _course(row)
                figure |= {"course": course} if all(math.isfinite(sum(losses)) for losses in course) else {}
            figure_rows.append(figure)
    return figure_rows


def save_figures(name: str, rows: Sequence[Figures]) -> Path:
    """Write the figures of a comparison, one line for each training, and return their folder."""
    folder = trial_store.FOLDER / as_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_figures(folder / FIGURES, rows)
    return folder


def as_folder(name: str) -> str:
    """Return a valid folder name. A long name of many methods or settings is cut, and a hash distinguishes it from others."""
    if len(name.encode()) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_figures(file: Path, rows: Sequence[Figures]) -> None:
    """Write the figures of trainings as JSON, one training a line."""
    body = ",\n".join(json.dumps(row) for row in rows)
    file.write_text(f"[\n{body}\n]\n", encoding="utf-8")


def differences_by_seed(rows: Sequence[Figures], of: str, less: str, metric: str) -> list[float]:
    """Return the metric of composition `of` minus that of `less`, for each seed with which both were trained.

    Metric `matched` is the general loss at which both first reach the same domain loss. Raises ValueError that names the available
    figures.
    """
    by_seed = [{row["seed"]: row for row in rows if row["composition"] == name} for name in (of, less)]
    pairs = {seed: (by_seed[0][seed], by_seed[1][seed]) for seed in sorted(by_seed[0].keys() & by_seed[1].keys())}
    name = "course" if metric == "matched" else metric
    lacking = [str(seed) for seed, pair in pairs.items() if any(name not in row for row in pair)]
    if lacking or not pairs:
        known = {str(row["composition"]): [key for key in row if key not in ("composition", "seed")] for row in rows}
        available = "; ".join(f"{composition}: {', '.join(names)}" for composition, names in known.items())
        which = "No seed has" if len(lacking) == len(pairs) else f"Seed {' and '.join(lacking)} has not"
        raise ValueError(f"{which} {name} of both {of} and {less}. There are {available}.")
    if metric == "matched":
        return [round(_matched(control[name], composition[name]), 4) for composition, control in pairs.values()]
    return [round(composition[name] - control[name], 4) for composition, control in pairs.values()]


def paired(first: Sequence[float], other: Sequence[float]) -> Estimate:
    """Return the mean of `other` minus `first` over seeds. Both have the figures of the same seeds in the same order."""
    return over_seeds([after - before for before, after in zip(first, other, strict=True)])


def matched(first: Sequence[Figures], other: Sequence[Figures]) -> Estimate | None:
    """Return how much more `other` forgets than `first` at equal domain loss, in nats per token over seeds.

    The runs of each seed are compared at the lowest validation loss on the domain that both reach.
    """
    if not all({"domain", "general"} <= row["measured"].keys() for row in (*first, *other)):
        return None
    return over_seeds([_matched(_course(before), _course(after)) for before, after in zip(first, other, strict=True)])


Course = list[tuple[float, float]]
"""Domain and general loss at each checkpoint, beginning before training."""


def _course(row: Figures) -> Course:
    domain, general = (row["measured"][name] for name in ("domain", "general"))
    return [(loss, kept) for (_, loss), (_, kept) in zip(domain, general, strict=True)]


def _matched(first: Course, other: Course) -> float:
    level = max(min(domain for domain, _ in course) for course in (first, other))
    return _general_at(level, other) - _general_at(level, first)


def _general_at(level: float, course: Course) -> float:
    """Return the general loss at which the curve first reaches this domain loss, by linear interpolation between two checkpoints."""
    (before, kept), *rest = course
    for after, general in rest:
        if before > level >= after:
            return kept + (general - kept) * (before - level) / (before - after)
        before, kept = after, general
    return course[0][1]  # the curve never fell below its start


def against_base(trainings: Sequence[Figures], base: Figures, measure: str) -> tuple[Estimate, Estimate]:
    """Return the loss of a model, averaged over seeds, and that loss minus the base's, paired by item."""
    before, after = _items(base["folder"], measure), _mean([_items(row["folder"], measure) for row in trainings])
    return ratio(*_columns(after)), _difference(before, after)


Items = dict[str, tuple[float, int, str]]
"""Test item → (nats, tokens, group)."""


def _items(folder: str, measure: str) -> Items:
    import polars as pl

    frame = pl.read_parquet(Path(folder) / "results.parquet").filter(pl.col("measure") == measure)
    return {row["item"]: (row["value"], row["tokens"], row["group"]) for row in frame.to_dicts()}


def _of_all(trainings: Sequence[Figures], measure: str) -> list[Items]:
    return [_items(row["folder"], measure) for row in trainings]


def _loss(training: Figures, measure: str) -> float:
    return float(training["metrics"][measure]["loss"])


def _mean(seeds: Sequence[Items]) -> Items:
    """Return the items with the mean of their nats over seeds."""
    return {
        item: (statistics.fmean(results[item][0] for results in seeds), tokens, group)
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


def pareto(table: Iterable[Row]) -> set[str]:
    """Return the compositions that no other beats in both domain loss and forgetting, or in domain loss alone if forgetting is not known."""
    figures = {row.name: (row.domain.value, row.forgetting.value if row.forgetting else 0.0) for row in table}

    def beaten(line: tuple[float, float]) -> bool:
        return any(other[0] <= line[0] and other[1] <= line[1] and other != line for other in figures.values())

    return {name for name, line in figures.items() if not beaten(line)}


def base_losses(results: Mapping[Trial, Figures], stage: str) -> dict[str, Estimate]:
    """Return the domain and the general loss before any training, if there are items of both."""
    folder = results[Trial(None, 0.0, 0, True)]["folder"]
    measures = {"domain": MEASURES[stage], "general": "general"}
    items = {name: _items(folder, measure) for name, measure in measures.items()}
    return {name: ratio(*_columns(of_measure)) for name, of_measure in items.items() if of_measure}
