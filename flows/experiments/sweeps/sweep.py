"""Plan and run a sweep: its points, the trials of each with every seed, and the best one by a figure of validation or of cost."""

import copy
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.execution.cost import estimates
from flows.execution.cost.estimates import Basis, Range
from flows.experiments import recipes, trial_store
from flows.experiments.recipes import Figures
from flows.experiments.sweeps import samplers
from flows.experiments.sweeps.axes import Axis
from flows.experiments.sweeps.samplers import Kind, Point, Sampler
from flows.experiments.trial_store import MODEL, Runner, TrialPlan
from tasks import configuration, methods
from tasks.configuration import PipelineConfig
from tasks.io import config_file

VALIDATION = "validation"
COSTS = {"peak_memory_mb": 1, "tokens_per_s": -1, "trainable": 1, "bytes": 1}
METRICS = {
    "tune": {VALIDATION: 1, "rewards/accuracies": -1, "rewards/margins": -1} | COSTS,
    "pretrain": {VALIDATION: 1, "general": 1} | COSTS,
}
"""Stage → the figures of a training by which a point may be chosen: 1 if lower is better, -1 if higher is. None is from a test set."""
FEW_STEPS = {"tokens_per_s": " Speed is timed from the second step on: train more tokens."}
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Stop:
    """The condition that ends a sweep before its last point: a figure that a point reaches, or a time after which no point begins."""

    metric: str | None
    value: float
    """The figure, or seconds."""


@dataclass(frozen=True)
class Sweep:
    """The plan of a sweep: its axes, the training, and the choice of the best."""

    axes: tuple[Axis, ...]
    stage: str
    seeds: tuple[int, ...]
    metric: str = VALIDATION
    tokens: int | None = None
    """Tokens of each training; None for the number in params.yaml."""
    sampler: Kind = "grid"
    trials: int | None = None
    """Points to draw."""
    stop: Stop | None = None
    raw: Mapping[str, Any] = field(default_factory=lambda: config_file.parse(configuration.PARAMS)[0], repr=False)
    """The contents of params.yaml at the start of the sweep. A later edit changes no trial."""
    config: PipelineConfig = field(default_factory=configuration.load, repr=False)

    @property
    def name(self) -> str:
        """Return its name, from the settings that it varies."""
        return "+".join(axis.setting for axis in self.axes)

    @property
    def sign(self) -> int:
        """Return 1 if a lower figure is better, -1 if a higher one is."""
        return METRICS[self.stage][self.metric]

    def points(self) -> Sampler:
        """Return the source of its points."""
        return samplers.make(self.sampler, self.axes, self.trials)

    @property
    def adapts(self) -> bool:
        """Return True if points depend on the results of earlier ones, so that they are not known in advance."""
        return isinstance(self.points(), samplers.Optimiser)


@dataclass(frozen=True)
class Row:
    """A point with the results of its trials, by seed."""

    point: Point
    results: list[Figures]
    values: list[float]

    @property
    def mean(self) -> float:
        """Return the mean of the figure over seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def folders(self) -> list[Path]:
        """Return the folders of its trials."""
        return [Path(result["folder"]) for result in self.results]


def make(
    axes: Sequence[Axis],
    *,
    metric: str = VALIDATION,
    stop: str | None = None,
    tokens: int | None = None,
    sampler: Kind = "grid",
    trials: int | None = None,
) -> Sweep:
    """Return a sweep of these axes. An axis `tune.seed` gives the seeds of every point.

    Raises ValueError with a remedy for a setting that training does not read, a value that it refuses, a figure that no trial has,
    and for no axis.
    """
    stage = "pretrain" if any(axis.setting.startswith("pretrain.") for axis in axes) else "tune"
    known = METRICS[stage]
    if metric not in known:
        raise ValueError(f"--metric {metric}: no trial of stage {stage} has it. There are: {', '.join(known)}.")
    seeds = next((axis.values for axis in axes if axis.setting == f"{stage}.seed"), ())
    varied = tuple(axis for axis in axes if axis.setting != f"{stage}.seed")
    if not varied:
        raise ValueError(f"{stage}.seed alone chooses nothing: vary another setting too, with a second `--set`.")
    if any(type(seed) is not int for seed in seeds) or any(axis.span for axis in axes if axis not in varied):
        raise ValueError(f"{stage}.seed: seeds are whole numbers, as in {stage}.seed=0..2.")
    config = configuration.load()
    made = Sweep(
        varied, stage, seeds or (getattr(config, stage).seed,), metric, tokens, sampler, trials, _stop(stop, known)
    )
    recipes.check_inputs(stage)
    if not getattr(config, stage).valid_tokens and not any(a.setting == f"{stage}.valid_tokens" for a in varied):
        raise ValueError(f"{stage}.valid_tokens is 0, and trials are compared on validation. Give it tokens.")
    made.points()
    _check(made)
    return made


def _stop(text: str | None, known: Mapping[str, int]) -> Stop | None:
    if text is None:
        return None
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text):
        return Stop(None, float(match[1]) * UNITS[match[2]])
    name, _, value = text.partition("=")
    try:
        reached = float(value)
    except ValueError:
        reached = math.nan
    if name not in known or not math.isfinite(reached):
        raise ValueError(
            f"--stop {text}: expected a time (30m, 2h), or a figure and what it has to reach ({VALIDATION}=2.1). "
            f"Figures are: {', '.join(known)}."
        )
    return Stop(name, reached)


def sections_of(sweep: Sweep, point: Point, seed: int) -> dict[str, Any]:
    """Return the contents of params.yaml for one trial: those at the start, with the point's values and the seed."""
    whole: dict[str, Any] = copy.deepcopy(dict(sweep.raw))
    put(whole, {**point, f"{sweep.stage}.seed": seed})
    section = whole[sweep.stage]
    section["save_every"] = 0  # validation during the training chooses nothing
    if sweep.tokens:
        section |= {"max_tokens": sweep.tokens, "epochs": 1000}
    for method in filter(methods.configs().__contains__, _methods(sweep.stage, whole, sweep.config)):
        whole.setdefault("methods", {}).setdefault(method, {})
    return whole


def put(whole: Any, point: Point) -> None:
    """Set the values of a point in the tree of a params.yaml. Raises ValueError if the name of a setting leads into a value."""
    for setting, value in point.items():
        *sections, name = setting.split(".")
        node = whole
        for depth, section in enumerate(sections):
            if node.get(section) is None:
                node[section] = {}
            node = node[section]
            if not isinstance(node, dict):
                inside = ".".join(sections[: depth + 1])
                raise ValueError(f"{setting}: there is no such setting, {inside} holds a value. Vary {inside} itself.")
        node[name] = value


def _methods(stage: str, whole: Mapping[str, Any], config: PipelineConfig) -> Iterator[str]:
    """Yield the methods that a stage composes by these settings."""
    for place in configuration.declaration(stage).parts.values():
        section, name = place.split(".")
        yield str(whole[section].get(name, getattr(getattr(config, section), name)))


def _check(sweep: Sweep) -> None:
    """Raise ValueError with all problems of the trials' settings, and for an axis that no training reads."""
    points = _examples(sweep)
    problems: dict[str, None] = {}
    read = []
    for point in points:
        try:
            read.append(_read(sweep, point))
        except ValueError as error:
            problems |= dict.fromkeys(re.sub(r"(?m)^\S+?/settings\.yaml(:\d+)?: ", "", str(error)).splitlines())
    if problems:
        raise ValueError("\n".join(problems))
    for axis in sweep.axes:
        seen: dict[str, set[str]] = {}
        for point, settings in zip(points, read, strict=True):
            others = str({name: value for name, value in point.items() if name != axis.setting})
            seen.setdefault(others, set()).add(settings)
        if len(axis.examples) > 1 and all(len(settings) == 1 for settings in seen.values()):
            used = ", ".join(_methods(sweep.stage, sections_of(sweep, points[0], 0), sweep.config))
            raise ValueError(
                f"{axis.setting}: stage {sweep.stage} does not depend on it. A sweep varies settings of {sweep.stage} and of the "
                f"methods that it composes: {used}."
            )


def _examples(sweep: Sweep) -> list[Point]:
    """Return points for the check of settings: all that are known before the first trial, or those of each axis by itself."""
    if sweep.sampler == "grid":
        return samplers.grid(sweep.axes)
    first = {axis.setting: axis.examples[0] for axis in sweep.axes}
    alone = [first | {axis.setting: value} for axis in sweep.axes for value in axis.examples]
    return alone if sweep.adapts else [*alone, *sweep.points().ask()]


def _read(sweep: Sweep, point: Point) -> str:
    """Return the part of a trial's settings that the stage reads."""
    import yaml

    config = trial_store.read_settings(yaml.safe_dump(sections_of(sweep, point, sweep.seeds[0])))
    settings = configuration.for_stage(sweep.stage, config)
    return str(settings.model_dump_json())


def plan(sweep: Sweep, point: Point, seed: int, *, trained: Path | None = None, test: bool = False) -> TrialPlan:
    """Return the trial of a point with a seed, or the trial that measures its model on the test sets."""
    return TrialPlan(
        title=f"sweep · {in_words(point)} · seed {seed}",
        comparison=sweep.name,
        stage=sweep.stage,
        sections=sections_of(sweep, point, seed),
        test=test,
        keeps_model=not test,
        trained=trained,
        facts={**point, f"{sweep.stage}.seed": seed},
    )


def in_words(point: Point) -> str:
    """Return a point as people write it."""
    return ", ".join(f"{setting}={value}" for setting, value in point.items())


def run(sweep: Sweep, parent: str) -> list[Row]:
    """Run the trials without a result and return all points, in the order in which they were proposed.

    Only the models of the best point are kept, to be measured. Raises ValueError if no trial has the requested figure, or if points are
    validated on other examples than the first.
    """
    rows: list[Row] = []
    points, begun = sweep.points(), time.monotonic()
    forks = not any(axis.setting.startswith("compute.") for axis in sweep.axes)
    with Runner("sweep", parent, forks=forks) as runner:
        while batch := points.ask():
            trial_store.check_unchanged(row.folders[0] for row in rows)
            folders = [trial_store.write_folder(plan(sweep, point, seed)) for point in batch for seed in sweep.seeds]
            with closing(runner.results(folders)) as results:
                for row in _rows(sweep, batch, results):
                    rows.append(row)
                    _keep_models(sweep, rows)
                    _check_validation(sweep, rows, row)
                    if sweep.stop and _is_over(sweep.stop, row, begun, METRICS[sweep.stage]):
                        return rows
            points.tell([sweep.sign * row.mean for row in rows[-len(batch) :]])
    return rows


def _rows(sweep: Sweep, batch: Sequence[Point], results: Iterator[Figures]) -> Iterator[Row]:
    for point in batch:
        figures = [next(results) for _ in sweep.seeds]
        yield Row(point, figures, [_value(result, sweep.metric) for result in figures])


def _value(result: Figures, metric: str) -> float:
    """Return the figure by which a trial is chosen. A diverged trial has none, even if the figure is a cost."""
    value, validation = figure(result, metric), result.get(VALIDATION)
    return value if validation is None or math.isfinite(validation) else math.nan


def _check_validation(sweep: Sweep, rows: Sequence[Row], row: Row) -> None:
    """Raise ValueError if a point was validated on other tokens than an earlier one, so that their figures cannot be compared.

    It names the settings in which the point differs from the most similar earlier point.
    """
    digest = row.results[0].get("validated_on")
    others = [one for one in rows if one.results[0].get("validated_on") != digest]
    if sweep.metric in COSTS or not others:
        return
    varied, other = min(((_varied(row.point, one.point), one) for one in others), key=lambda pair: len(pair[0]))
    raise ValueError(
        f"{', '.join(varied)}: validation measures other tokens with {in_words(row.point)} than with {in_words(other.point)}, so their losses "
        f"cannot be ranked. Vary another setting, or choose by a cost: --metric {' or '.join(COSTS)}."
    )


def _varied(point: Point, other: Point) -> list[str]:
    return [setting for setting in point if point[setting] != other[setting]]


def figure(result: Figures, metric: str) -> float:
    """Return a figure of a trial at the end of its training. Raises ValueError if it has none with this name."""
    value = result.get(metric)
    if value is None and (points := result.get("measured", {}).get(metric)):
        value = points[-1][1]
    if value is None:
        known = {name for name, there in {**result, **result.get("measured", {})}.items() if there is not None}
        there = ", ".join(name for name in {**METRICS["tune"], **METRICS["pretrain"]} if name in known)
        few = FEW_STEPS.get(metric, "")
        raise ValueError(f"--metric {metric}: this training has no such figure. It has: {there}.{few}")
    return float(value)


def _is_over(stop: Stop, row: Row, begun: float, signs: Mapping[str, int]) -> bool:
    """Return True if the sweep ends with this point. A diverged point reaches no figure."""
    if stop.metric is None:
        return time.monotonic() - begun >= stop.value
    reached = math.fsum(_value(result, stop.metric) for result in row.results) / len(row.results)
    return signs[stop.metric] * reached <= signs[stop.metric] * stop.value


def _keep_models(sweep: Sweep, rows: Sequence[Row]) -> None:
    """Remove the models of all points but the best so far."""
    kept = best(sweep, rows)
    for row in rows:
        for folder in row.folders:
            if kept is None or folder not in kept.folders:
                shutil.rmtree(folder / MODEL, ignore_errors=True)


def best(sweep: Sweep, rows: Sequence[Row]) -> Row | None:
    """Return the point with the best mean over seeds, the first of several equal ones; None if all diverged."""
    finite = [row for row in rows if math.isfinite(row.mean)]
    return min(finite, key=lambda row: sweep.sign * row.mean, default=None)


def measure(sweep: Sweep, winner: Row, parent: str) -> tuple[list[Figures], Figures]:
    """Measure the winner, with every seed, and the base on the test sets. A model that is no longer kept is trained again."""
    trial_store.check_unchanged(winner.folders)
    base = TrialPlan(
        "sweep · base",
        sweep.name,
        sweep.stage,
        sweep.raw,
        trains=False,
        test=True,
        facts={"composition": "base"},
    )
    plans = [
        plan(sweep, winner.point, seed, trained=folder if (folder / MODEL).is_dir() else None, test=True)
        for seed, folder in zip(sweep.seeds, winner.folders, strict=True)
    ]
    folders = [trial_store.write_folder(one) for one in (base, *plans)]
    with Runner("test", parent) as runner:
        measured_base, *measured = runner.results(folders)
    for folder in winner.folders:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
    return measured, measured_base


def duration(sweep: Sweep) -> tuple[Range, Basis] | None:
    """Return the seconds of the missing trials, one after the other, and the basis of the estimate; None if nothing is known."""
    default = getattr(configuration.load(), sweep.stage).max_tokens
    setting = f"{sweep.stage}.max_tokens"
    tokens = [int(sweep.tokens or point.get(setting, default)) for point, _ in missing(sweep)]
    trainings = {number: estimates.for_training(sweep.stage, number) for number in {*tokens}}
    test = estimates.for_stages(["evaluate"]).get("evaluate")
    if test is None or None in trainings.values():
        return None
    parts = [one.seconds for number in tokens if (one := trainings[number])] + [test.seconds] * (len(sweep.seeds) + 1)
    basis = next((one.source for one in trainings.values() if one), test.source)
    return Range(math.fsum(part.low for part in parts), math.fsum(part.high for part in parts)), basis


def number_of_points(sweep: Sweep) -> int:
    """Return the number of points that are trained; for an optimiser, the largest possible number."""
    return (sweep.trials or samplers.TRIALS) if sweep.adapts else len(sweep.points().ask())


def missing(sweep: Sweep) -> list[tuple[Point, int]]:
    """Return the trials without a result; for an optimiser, whose points are not known in advance, as many as it may request."""
    if sweep.adapts:
        unknown: Point = {axis.setting: axis.examples[0] for axis in sweep.axes}
        return [(unknown, seed) for _ in range(sweep.trials or samplers.TRIALS) for seed in sweep.seeds]
    return [trial for folder, trial in different(sweep).items() if not trial_store.is_finished(folder)]


def different(sweep: Sweep) -> dict[Path, tuple[Point, int]]:
    """Return one trial for each folder, of the points that are known in advance. Trials with the same training share a folder."""
    trials = [(point, seed) for point in sweep.points().ask() for seed in sweep.seeds]
    return {trial_store.write_folder(plan(sweep, *trial)): trial for trial in trials}
