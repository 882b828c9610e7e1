"""Estimate the seconds, memory and disk that a stage will take.

Estimates rest on the stage's runs in MLflow: those with equal settings, otherwise those with the fewest different ones. If the settings
give the number of tokens that a stage processes, and the runs had another number, the range spans the run's own seconds and the seconds in
proportion to the tokens. Without a run, seconds follow from the work (`flows.execution.cost.workload`) and the speed of this machine
(`flows.execution.cost.machine_speed`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from flows.execution.cost import footprint, gpu_plan, machine_speed, workload
from flows.execution.cost.workload import WEIGHT_BYTES, Settings, Shape
from tasks import configuration, runner
from tasks.configuration import PipelineConfig
from tasks.core.nested import flat
from tasks.core.operation import Resources
from tasks.core.speed import Speed
from tasks.forkserver import client
from tasks.io import provenance
from tasks.io.runs import past_runs
from tasks.io.runs.past_runs import Past

SHOWN = 5
"""Runs that a range spans: the latest of those with the most similar settings."""
MB = 2**20
IDLE_S, IDLE_MB = (0.1, 0.5), (100.0, 2000.0)
"""Seconds of a stage that has nothing to compute; memory of every stage beside weights and optimizer states."""
SPREAD = 1.5
"""Factor by which the seconds may differ from what the machine's speed gives: data are shorter than the settings allow, and methods cost
more than a plain training."""
LINE = (12e6, 120e6)
"""Assumed bytes per second of a download from the hub, on lines of 100 and of 1,000 Mbit/s. The line is not measured."""
MEMORY_SPREAD = 3.0
FORKED = 0.2
"""Share of a stage's start time that remains if the stage is forked from a process that has imported its libraries."""
Basis = Literal["equal settings", "other settings", "machine speed", "data sheet"]
BASIS_IN_WORDS: dict[Basis, str] = {
    "equal settings": "earlier runs with these settings",
    "other settings": "earlier runs with other settings, in proportion to the tokens",
    "machine speed": "the measured speed of this machine when it is idle, for want of runs",
    "data sheet": "a GPU's data sheet and assumed shares of its peak: nothing of it was measured",
}


@dataclass(frozen=True)
class Range:
    """The least and the most that is expected."""

    low: float
    high: float


@dataclass(frozen=True)
class StageEstimate:
    """The resources that a stage is expected to take."""

    seconds: Range
    memory_mb: Range | None
    """MB (2^20 bytes) of memory at its peak."""
    disk_mb: Range | None
    """MB (2^20 bytes) of new files."""
    source: Basis
    """Earlier runs with these settings, earlier runs with others, the measured speed of this machine, or a GPU's data sheet."""
    runs: int
    """Earlier runs behind the figures; 0 with `machine speed` and `data sheet`."""


def for_stages(stages: Sequence[str]) -> dict[str, StageEstimate]:
    """Return the estimate of each stage that has one."""
    config, known = configuration.load(), set(configuration.stage_names())
    families = dict.fromkeys(name for stage in stages if (name := stage.partition("@")[0]) in known)
    runs = past_runs.past(families)
    estimates = {name: _estimate(name, config, runs.get(name, [])) for name in families}
    return {stage: estimate for stage in stages if (estimate := estimates.get(stage.partition("@")[0]))}


def on_gpus(stages: Sequence[str], name: str) -> dict[str, StageEstimate]:
    """Return the estimate of each stage on GPUs of this kind. A training uses `compute.processes` of them; memory is per GPU.

    Raises ValueError for a GPU without known figures.
    """
    config, known, gpu = configuration.load(), set(configuration.stage_names()), gpu_plan.gpu(name)
    estimates: dict[str, StageEstimate] = {}
    for stage in stages:
        family = stage.partition("@")[0]
        if family not in known:
            continue
        now = _recorded(family, config)
        trains = configuration.declaration(family).trains
        speed = gpu_plan.speed(gpu, config.compute.processes if trains else 1)
        if estimate := from_speed(family, now, config, speed):
            estimates[stage] = replace(estimate, source="data sheet", memory_mb=_of_gpu(family, now, config))
    return estimates


def _computes_nothing(now: Mapping[str, str], work: workload.Work) -> bool:
    """Return True if a stage runs no model, or hands one on unchanged."""
    return not work.operations or now.get("compress.compressor") == "none"


def _of_gpu(stage: str, now: Mapping[str, str], config: PipelineConfig) -> Range | None:
    """Return the GPU memory of a stage; None if it runs no model there, or the model's size is not known."""
    shape = workload.base_shape(config.fetch.model.model_dump())
    if shape is None or not workload.is_known(stage):
        return None
    everything = _with_all(now, config)
    settings, work = Settings(everything), workload.of(stage, everything)
    if _computes_nothing(now, work):
        return None
    if not work.trained:
        weights_mb = gpu_plan.reading_bytes(shape, config.compute.precision) / MB
        return Range(weights_mb, 2 * weights_mb)
    section = getattr(config, stage)
    least, most = gpu_plan.training_bytes(stage, settings, shape, is_checkpointed=section.activation_checkpointing)
    return Range(least / MB, most / MB)


def for_training(stage: str, tokens: int) -> StageEstimate | None:
    """Return the estimate of a stage that trains on `tokens` tokens, with params.yaml's other settings; None if nothing is known."""
    past = past_runs.past([stage]).get(stage, [])
    runs = [
        run for run in past if workload.of(stage, run.config).trained
    ]  # a model that was handed on unchanged was not trained
    return _estimate(stage, configuration.load(), runs, {f"{stage}.max_tokens": str(tokens)})


def _estimate(
    stage: str, config: PipelineConfig, runs: Sequence[Past], changes: dict[str, str] | None = None
) -> StageEstimate | None:
    now = _recorded(stage, config) | (changes or {})
    machine = " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items())
    comparable = [past for past in runs if past.machine == machine]  # another machine's times say little
    if stage == "fetch":  # the time of one model says nothing about another
        comparable = [past for past in comparable if _fetched_model(past.config) == _fetched_model(now)]
    is_of_base = workload.is_of_base(stage, now)
    if is_of_base:  # runs of earlier releases do not say which base they had
        base = runner.base_weights()
        comparable = [past for past in comparable if base.items() <= {**base, **past.config}.items()]
    if comparable and (not is_of_base or workload.is_fetched(config.fetch.model.model_dump())):
        return from_runs(stage, now, comparable)
    if config.compute.device != "cpu":
        return None  # the speed of a GPU is not measured
    speed = machine_speed.of(config.compute)
    if speed and configuration.declaration(stage).trains:
        speed = machine_speed.shared(speed, config.compute, config.resources.get(stage, Resources()).nodes)
    return from_speed(stage, now, config, speed) if speed else None


def _fetched_model(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name.startswith("fetch.model.")}


def from_runs(stage: str, now: Mapping[str, str], runs: Sequence[Past]) -> StageEstimate:
    """Return the range over the runs with the most similar settings; the latest is first in `runs`."""
    differences = [sum(past.config.get(name) != value for name, value in now.items()) for past in runs]
    nearest = [past for past, count in zip(runs, differences, strict=True) if count == min(differences)][:SHOWN]
    seconds = [value for past in nearest for value in _seconds(stage, now, past)]
    return StageEstimate(
        seconds=Range(min(seconds), max(seconds)),
        memory_mb=_range([past.memory_mb for past in nearest]),
        disk_mb=_range([past.output_mb for past in nearest]),
        source="other settings" if min(differences) else "equal settings",
        runs=len(nearest),
    )


def _seconds(stage: str, now: Mapping[str, str], past: Past) -> list[float]:
    """Return the seconds that a run took, and the seconds if all of its time were proportional to the tokens."""
    operations, then = (workload.of(stage, settings).operations for settings in (now, past.config))
    return [past.seconds, past.seconds * operations / then] if operations and then else [past.seconds]


def _range(values: Sequence[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    return Range(min(known), max(known)) if known else None


def from_speed(stage: str, now: Mapping[str, str], config: PipelineConfig, speed: Speed) -> StageEstimate | None:
    """Return the estimate from the work of a stage and the speed of this machine; None if either is not known."""
    shape = workload.base_shape(config.fetch.model.model_dump())
    settings = _with_all(now, config)
    if stage in _OF_DATA:
        seconds = _OF_DATA[stage](Settings(settings), speed, shape)
        if seconds is None:
            return None
        span, download = _spread(seconds), _downloaded_bytes(Settings(settings), shape) if stage == "fetch" else 0.0
        span = Range(span.low + download / max(LINE), span.high + download / min(LINE))
        return StageEstimate(span, None, None, "machine speed", runs=0)
    if not workload.is_known(stage) or shape is None:
        return None
    weights_mb = WEIGHT_BYTES * shape.parameters / MB
    work = workload.of(stage, settings)
    if _computes_nothing(now, work):
        seconds_range, memory = Range(*IDLE_S), Range(*IDLE_MB)
    else:
        adapts = Settings(now).adapts(stage)
        seconds_range = _spread(_start(speed) + work.seconds(shape, speed, adapts=adapts))
        each = _memory(stage, Settings(settings), shape, trains=bool(work.trained))
        processes = processes_here(stage, config)
        memory = Range(processes * each.low, processes * each.high)
    return StageEstimate(seconds_range, memory, _disk(stage, now, weights_mb), "machine speed", runs=0)


def processes_here(stage: str, config: PipelineConfig) -> int:
    """Return the number of processes of this machine that each hold a model in memory: those that share a training on a CPU."""
    if config.compute.device != "cpu" or not configuration.declaration(stage).trains:
        return 1
    return max(1, config.compute.processes // config.resources.get(stage, Resources()).nodes)


def _memory(stage: str, settings: Settings, shape: Shape, *, trains: bool) -> Range:
    """Return the memory of a stage that runs a model on a CPU."""
    at_once = weights = WEIGHT_BYTES * shape.parameters
    least = most = 0.0
    if trains:
        held = footprint.of(stage, settings, shape)
        at_once, weights = held.at_once, held.weights
        if not settings.adapts(stage):  # the states of an adapter lie within the spread
            least, most = held.least_states, held.most_states
    return Range(IDLE_MB[0] + (at_once / 2 + least) / MB, IDLE_MB[1] + MEMORY_SPREAD * (weights + most) / MB)


def _recorded(stage: str, config: PipelineConfig) -> dict[str, str]:
    """Return the settings of a stage as MLflow records them."""
    return {name: str(value) for name, value in runner.as_recorded(configuration.for_stage(stage, config)).items()}


def _with_all(now: Mapping[str, str], config: PipelineConfig) -> dict[str, str]:
    """Return the settings of a stage, together with all others of params.yaml."""
    return {name: str(value) for name, value in flat(config.model_dump())} | dict(now)


def _spread(seconds: float) -> Range:
    return Range(seconds / SPREAD, seconds * SPREAD)


def _start(speed: Speed) -> float:
    """Return the seconds that a stage with a model takes to start."""
    return speed.start_s * (FORKED if client.is_wanted() else 1.0)


def _fetched(settings: Settings, speed: Speed, shape: Shape | None) -> float:
    """Return the seconds of `fetch`: a start, and if the model is dequantised (GGUF), some time for each parameter."""
    is_quantised = settings.kind("fetch.model") in ("package", "gguf")
    return speed.start_s * (1 + 2e-8 * (shape.parameters if shape and is_quantised else 0))


def _downloaded_bytes(settings: Settings, shape: Shape | None) -> float:
    """Return the bytes of the weights that `fetch` has to download, two for each parameter; 0 if the hub's cache has the model."""
    if settings.kind("fetch.model") != "hub" or shape is None:
        return 0.0
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"models--{settings.text('fetch.model.id').replace('/', '--')}"
    is_cached = (Path(HF_HUB_CACHE) / folder / "snapshots" / settings.text("fetch.model.revision")).is_dir()
    return 0.0 if is_cached else 2 * shape.parameters


def _ingested(settings: Settings, speed: Speed, _shape: Shape | None) -> float:
    """Return the seconds of `ingest`. Mining the functions of a package and running their doctests takes as long as starting a stage."""
    mined = settings.text("ingest.sources").count("'package'")
    corpora = settings.domains and 1 + settings.domains
    read = corpora * settings.number("ingest.corpora.max_chars") / 1e7
    embeds = 0 if settings.text("ingest.near_duplicates.cosine") in ("", "None") else 2
    return speed.start_s * (0.5 + mined + read + embeds)


def _faulted(settings: Settings, speed: Speed, _shape: Shape | None) -> float:
    return speed.start_s * (0.05 if settings.is_empty("faults.sources") else 1.3)


def _refined(settings: Settings, speed: Speed, _shape: Shape | None) -> float | None:
    """Return the seconds of `refine` by rules; None if a model writes, as the number of its examples is not known."""
    return 1.2 * _start(speed) if settings.kind("refine.generator") == "rules" else None


def _light(_settings: Settings, speed: Speed, _shape: Shape | None, *, starts: float) -> float:
    return speed.start_s * starts


_OF_DATA: dict[str, Callable[[Settings, Speed, Shape | None], float | None]] = {
    "fetch": _fetched,
    "ingest": _ingested,
    "faults": _faulted,
    "refine": _refined,
    "select": partial(_light, starts=0.1),
    "report": partial(_light, starts=0.3),
    "register": partial(_light, starts=0.15),
}
"""Stage → its seconds, if they follow from the data and from Python's run time rather than from tokens. They are multiples of a stage's
start time, which measures how fast this machine runs Python; the factors were fitted on profiles `tiny`, `lab` and `telecom`."""


def _disk(stage: str, now: Mapping[str, str], weights_mb: float) -> Range | None:
    """Return the size of the model that a stage writes; its other outputs are small tables."""
    if stage in ("pretrain", "tune"):
        adapts = stage == "tune" and Settings(now).adapts(stage)  # `pretrain` merges its adapter
        return Range(0, weights_mb / 4) if adapts else Range(weights_mb / 2, weights_mb * 1.5)
    return Range(0, weights_mb) if stage == "compress" else None


def as_time(seconds: Range) -> str:
    """Format a range of seconds: `under 1 s`, `40–70 s`, `3–5 min`, `1.2–2.0 h`."""
    if seconds.high < 1:
        return "under 1 s"
    unit, length = next((u, s) for u, s, most in _UNITS if seconds.high < most)
    return _between(seconds.low / length, seconds.high / length, unit)


def as_size(megabytes: Range) -> str:
    """Format a range of megabytes: `300–800 MB`, `1.2–3.0 GB`."""
    unit, size = ("MB", 1) if megabytes.high < 1000 else ("GB", 1024)
    return _between(megabytes.low / size, megabytes.high / size, unit)


def _between(low: float, high: float, unit: str) -> str:
    first, last = (f"{value:.0f}" if value >= 10 or unit in ("s", "MB") else f"{value:.1f}" for value in (low, high))
    return f"{last} {unit}" if first == last else f"{first}–{last} {unit}"


_UNITS = (("s", 1, 100), ("min", 60, 6000), ("h", 3600, float("inf")))
