"""Comparisons of compositions on one task at equal tokens: what is run, and what came of it.

Every composition has its learning rate chosen on validation, among the same number of values; the best one is trained with
every seed and measured on the test sets. A finished trial is never run again: its folder is named by everything it follows from.
"""

import hashlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import methods, settings
from tasks.core.params import Params
from tasks.core.statistics import Bootstrap, Estimate, over_seeds, ratio, ratio_difference
from tasks.io import params, progress, provenance, tracking

RECIPES = Path("params/compare")
FOLDER = Path(".ratchet/compare")
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
MEASURES = {"tune": "domain", "pretrain": "domain_text"}
"""What each stage is to make better, as `evaluate` calls it."""
ITEMS = {"tune": "r0", "pretrain": None}
"""Whose data each stage trains on."""
BASES = {"tune": "models/pretrained", "pretrain": "models/base"}
"""What each stage trains on from."""
Rows = dict[str, Any]


class Recipe(Params):
    """A comparison. The data, and all settings that it does not name, are those of params.yaml."""

    compositions: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name → what differs in the section of the stage (`adapter: lora`), and under `methods` in theirs. The first is the one
    that the others are compared with."""
    learning_rates: tuple[float, ...] | dict[str, tuple[float, ...]] = RATES
    """Values that are tried for each composition on validation: for all, or by name."""
    seeds: int = Field(3, ge=1)
    """The best learning rate of each is trained so many times."""
    tokens: int = Field(40_000, ge=1)
    """What each training that is measured trains on."""
    search_tokens: int | None = Field(None, ge=1)
    """What those train on that choose learning rates; as much as the others where nothing is said."""
    stage: Literal["tune", "pretrain"] = "tune"
    """Where the compositions train."""

    def rates(self, name: str) -> tuple[float, ...]:
        """The learning rates to try for a composition. Raises ValueError where they are missing, or too few to choose from."""
        rates = self.learning_rates if isinstance(self.learning_rates, tuple) else self.learning_rates.get(name, ())
        if len(rates) < 4:
            raise ValueError(f"learning_rates of {name}: a fair choice needs at least 4 values (found {len(rates)}).")
        return rates


@dataclass(frozen=True)
class Trial:
    """One training."""

    composition: str | None
    """None for the base, which is only measured."""
    rate: float
    seed: int
    test: bool


@dataclass(frozen=True)
class Line:
    """A composition in the table. Figures are means over seeds; intervals come from resampling groups of test items."""

    name: str
    rate: float
    losses: list[float]
    """Domain loss by seed."""
    domain: Estimate
    gain: Estimate
    """Domain loss less the base's, paired by item; negative is better."""
    against_first: Estimate | None
    """Domain loss less that of the recipe's first composition, paired by item."""
    forgetting: Estimate
    """General loss less the base's, paired by item; positive is worse."""
    matched: Estimate | None
    """General loss less that of the recipe's first composition where both have the same domain loss, over seeds. Only known
    where both losses are measured at every checkpoint, as `pretrain` does."""
    passed: Estimate | None
    trainable: int
    peak_memory_mb: float
    tokens_per_s: list[float]
    """By seed, of CPU time on a CPU and of the clock elsewhere; without those that were interrupted."""
    bytes: int


def read(names: Sequence[str], **options: Any) -> tuple[str, Recipe]:
    """The name and the recipe that arguments ask for: a file of params/compare, or methods, one composition each."""
    given = {name: value for name, value in options.items() if value is not None}
    known = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    file = known.get(names[0], Path(names[0]))
    if len(names) == 1 and file.is_file():
        recipe: Recipe = params.read(file, Recipe)
        return file.stem, Recipe.model_validate(recipe.model_dump() | given)
    try:
        compositions = {name: _alone(name) for name in names}
    except ValueError as error:
        raise ValueError(f"{error} Recipes: {', '.join(known) or 'none'}.") from None
    return "-".join(names), Recipe(compositions=compositions, **given)


def check(recipe: Recipe) -> None:
    """Raise FileNotFoundError where what the trials read is not there yet, ValueError where settings ask for several processes."""
    if settings.load().compute.processes > 1:
        raise ValueError("compute.processes: a comparison trains in one process, so that costs compare. Set it to 1.")
    item = ITEMS[recipe.stage]
    reads, _ = settings.files(recipe.stage, item, settings.load())
    if missing := [str(path) for path in reads.values() if not path.exists()]:
        stage = f"{recipe.stage}@{item}" if item else recipe.stage
        raise FileNotFoundError(
            f"{', '.join(missing)}: not there yet. `ratchet run {stage}` makes what a comparison needs."
        )


def _alone(name: str) -> dict[str, Any]:
    """The composition whose one part that is not neutral is this method."""
    parts = {"adapter": "none", "selector": "all"}
    for family in methods.families_of(name):
        return parts | {family.removesuffix("s"): name}
    raise AssertionError


def search(recipe: Recipe) -> list[Trial]:
    """The trials that choose learning rates."""
    return [Trial(name, rate, 0, False) for name in recipe.compositions for rate in recipe.rates(name)]


def finals(recipe: Recipe, best: Mapping[str, float]) -> list[Trial]:
    """The trials that are measured on the test sets, and the base."""
    seeds = itertools.product(recipe.compositions, range(recipe.seeds))
    return [Trial(None, 0.0, 0, True), *(Trial(name, best[name], seed, True) for name, seed in seeds)]


def best_rates(recipe: Recipe, results: Mapping[Trial, Rows]) -> dict[str, float]:
    """The learning rate of the lowest validation loss, by composition.

    Raises ValueError for one that diverged at every rate.
    """
    found: dict[str, tuple[float, float]] = {}
    for trial in search(recipe):
        loss = results[trial]["validation"]
        if trial.composition and math.isfinite(loss):
            found[trial.composition] = min(found.get(trial.composition, (math.inf, 0.0)), (loss, trial.rate))
    if diverged := [name for name in recipe.compositions if name not in found]:
        raise ValueError(f"{', '.join(diverged)}: no learning rate gave a finite validation loss. Try smaller ones.")
    return {name: found[name][1] for name in recipe.compositions}


def execute(recipe: Recipe, name: str, trials: Sequence[Trial], parent: str) -> dict[Trial, Rows]:
    """Run what has no result yet, one process after the other, and give back all results."""
    results = {}
    for trial in progress.track(trials, label=f"compare {name}", total=len(trials), unit="trial"):
        folder = prepare(recipe, name, trial)
        if not (folder / "result.json").is_file():
            env = os.environ | {tracking.PARENT: parent}
            done = subprocess.run([sys.executable, "-m", "tasks.trial", str(folder)], env=env, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"{title(trial)} failed; the lines above say why. What is finished is kept in {FOLDER}."
                )
        results[trial] = json.loads((folder / "result.json").read_text(encoding="utf-8")) | {"folder": str(folder)}
    return results


def prepare(recipe: Recipe, name: str, trial: Trial) -> Path:
    """The folder of a trial with its settings, named by all that its result follows from."""
    import yaml

    whole = settings_of(recipe, trial)
    text = yaml.safe_dump(whole, sort_keys=False)
    partial = FOLDER / "settings.yaml"
    FOLDER.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    everything = settings.load(partial)
    key = [settings.key(recipe.stage, ITEMS[recipe.stage], everything) if trial.composition else ""]
    if trial.test:
        read_by_test = ("data/ingested/test.parquet", "data/ingested/test_documents.parquet", BASES[recipe.stage])
        key += [provenance.digest(Path(path)) for path in read_by_test]
        key += [settings.for_stage("evaluate", everything).model_dump_json()]
        key += [provenance.code_digest(settings.code("evaluate", everything))]
    folder = FOLDER / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    whole["models"] = {"trial": _model(recipe, trial, folder)}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    asked = {
        "stage": recipe.stage if trial.composition else None,
        "test": trial.test,
        "title": title(trial),
        "tags": {"ratchet.compare": name},
        "facts": {"composition": trial.composition or "base", "learning_rate": trial.rate, "seed": trial.seed},
    }
    (folder / "trial.json").write_text(json.dumps(asked), encoding="utf-8")
    return folder


def settings_of(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    """The whole settings of a trial: those of params.yaml, and what the recipe changes."""
    whole: dict[str, Any] = settings.load().model_dump(mode="json", exclude_none=True)
    if trial.composition is None:
        return whole
    changes = dict(recipe.compositions[trial.composition])
    own_methods: dict[str, Any] = changes.pop("methods", {})
    tokens = recipe.tokens if trial.test else (recipe.search_tokens or recipe.tokens)
    section = whole[recipe.stage] | changes | {"max_tokens": tokens, "seed": trial.seed, "epochs": 1000}
    if not trial.test:
        section["save_every"] = 0  # what is measured on the way chooses nothing
    whole[recipe.stage] = section
    for family in settings.declaration(recipe.stage).parts:
        whole["methods"].setdefault(section[family.removesuffix("s")], {})
    for name, values in own_methods.items():
        whole["methods"][name] = whole["methods"].get(name, {}) | values
    whole["methods"][section["optimizer"]] |= {"learning_rate": trial.rate}
    return whole


def _model(recipe: Recipe, trial: Trial, folder: Path) -> dict[str, str]:
    """The entry of the `models` map by which `evaluate` finds what a trial trained."""
    base = BASES[recipe.stage]
    return {"group": "compare", "path": str(folder / "model") if trial.composition else base, "base": base}


def title(trial: Trial) -> str:
    """A trial's name in MLflow."""
    if trial.composition is None:
        return "compare · base"
    return f"compare · {trial.composition} · rate {trial.rate:g} · seed {trial.seed}"


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
    made = []
    for name, rows in runs.items():
        domain, kept = _mean(items[name]), _mean([_items(row["folder"], "general") for row in rows])
        passes = _mean([_items(row["folder"], "pass@1") for row in rows])
        made.append(
            Line(
                name=name,
                rate=best[name],
                losses=[row["metrics"][measure]["loss"] for row in rows],
                domain=ratio(*_columns(domain)),
                gain=_difference(before, domain),
                against_first=None if name == first else _difference(_mean(items[first]), domain),
                forgetting=_difference(general, kept),
                matched=None if name == first else matched(runs[first], rows),
                passed=ratio(*_columns(passes)) if passes else None,
                trainable=rows[0]["trainable"],
                peak_memory_mb=max(row["peak_memory_mb"] for row in rows),
                tokens_per_s=[row["tokens_per_s"] for row in rows if row["tokens_per_s"]],
                bytes=rows[0]["bytes"],
            )
        )
    return made


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
    head = [
        "",
        "rate",
        "domain loss",
        "by seed",
        "against the first",
        "forgetting",
        "at equal domain loss",
        "pass@1",
        "trains",
        "peak MB",
        "tokens/s",
        "MB",
    ]
    body = [list(_cells(row, row.name in best)) for row in rows]
    text = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body]]
    notes = (
        "Means over seeds; brackets: 95 % intervals by a bootstrap over groups of test items, seeds averaged. "
        "Forgetting: general loss less the base's; at equal domain loss: less that of the first, over seeds (Student's t). "
        "Tokens/s: of CPU time on a CPU, with the range over seeds. * no other is better in both."
    )
    return "\n".join([*text, "", notes])


def _cells(row: Line, best: bool) -> Iterator[str]:
    yield f"{row.name}{' *' if best else ''}"
    yield f"{row.rate:g}"
    yield _shown(row.domain, "")
    yield ", ".join(f"{loss:.3f}" for loss in row.losses)
    yield _shown(row.against_first, "+") if row.against_first else "—"
    yield _shown(row.forgetting, "+")
    yield _shown(row.matched, "+") if row.matched else "—"
    yield _share(row.passed) if row.passed else "—"
    yield f"{row.trainable:,}"
    yield f"{row.peak_memory_mb:,.0f}"
    yield _range(row.tokens_per_s) if row.tokens_per_s else "—"
    yield f"{row.bytes / 2**20:.2f}"


def _shown(estimate: Estimate, sign: str) -> str:
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]".replace("-", "−")


def _share(passed: Estimate) -> str:
    return f"{100 * passed.value:.1f} [{100 * passed.low:.1f}, {100 * passed.high:.1f}] %".replace("-", "−")


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def of_base(results: Mapping[Trial, Rows], stage: str) -> str:
    """What the table is to be read against: the losses before any training."""
    folder = results[Trial(None, 0.0, 0, True)]["folder"]
    measures = {"domain": MEASURES[stage], "general": "general"}
    losses = {name: ratio(*_columns(_items(folder, measure))) for name, measure in measures.items()}
    return "Base: " + ", ".join(f"{name} loss {_shown(loss, '')}" for name, loss in losses.items()) + " nats per token."


def plot(rows: Sequence[Line], width: int = 640, height: int = 420) -> str:
    """What each gains against what it forgets, as SVG: a circle a composition, its area by what trains, on a cross of intervals.

    Both are differences to the base, paired by item: how hard the items are is not in their intervals.
    """
    place_x = _scale([row.forgetting for row in rows], 80, width - 160)
    place_y = _scale([row.gain for row in rows], height - 50, 20)
    best, most = pareto(rows), max(row.trainable for row in rows)
    shapes = [
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">forgetting: general loss less the base\'s, nats per token →</text>',
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">domain loss less the base\'s, nats per token →</text>',
    ]
    for row in rows:
        x, y = place_x(row.forgetting.value), place_y(row.gain.value)
        across = f"M{place_x(row.forgetting.low):.1f} {y:.1f}H{place_x(row.forgetting.high):.1f}"
        down = f"M{x:.1f} {place_y(row.gain.low):.1f}V{place_y(row.gain.high):.1f}"
        shapes.append(f'<path d="{across}{down}" stroke="#b8c0cc"/>')
        radius = 4 + 12 * (row.trainable / most) ** 0.5
        fill = "#1f6feb" if row.name in best else "#b8c0cc"
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" fill-opacity="0.7"/>')
        label = f"{row.name} ({row.gain.value:+.3f}, {row.forgetting.value:+.3f})"
        shapes.append(f'<text x="{x + radius + 4:.1f}" y="{y + 4:.1f}">{label}</text>')
    style = "<style>text{font:12px system-ui,sans-serif;fill:#30363d}</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{style}{"".join(shapes)}</svg>\n'


def _scale(estimates: Sequence[Estimate], start: float, end: float) -> Callable[[float], float]:
    """From a figure to its place between `start` and `end`; a bound that does not exist is drawn at the edge."""
    bounds = [x for e in estimates for x in (e.low, e.value, e.high) if math.isfinite(x)]
    low, high = min(bounds), max(bounds)
    return lambda value: (
        start + (end - start) * ((min(max(value, low), high) - low) / (high - low) if high > low else 0.5)
    )
