"""Estimate the seconds, memory and disk that a stage will take.

Estimates rest on the stage's runs in MLflow: those with equal settings, else those with the fewest different ones. If the settings
give the number of tokens a stage works through, and the runs had another number, the seconds lie between the run's own and those
in proportion to the tokens. Without a run they follow from tokens × parameters, and from how fast this machine multiplies now.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks import configuration, runner
from tasks.configuration import PipelineConfig
from tasks.io import provenance
from tasks.io.runs import run_history
from tasks.io.runs.run_history import Past

SHOWN = 5
"""Runs that a range spans: the latest of those with the nearest settings."""
BASE = Path("models/base")
MB = 2**20
START_S = (3.0, 20.0)
"""Seconds that a stage with a model takes beside its tokens: imports, reading and writing weights."""
IDLE_S, IDLE_MB = (0.5, 10.0), (100.0, 2000.0)
"""Seconds of a stage that has nothing to compute; memory of every stage beside weights and optimizer states."""
SPREAD = 3.0
"""Factor by which the seconds may be longer or shorter than the operations alone say: a machine does not multiply all the time,
and bf16 is faster."""
READ, TRAIN, WRITE = 2.0, 6.0, 20.0
"""Operations for each parameter and token that is read, trained on, or written; written tokens wait for memory."""
Basis = Literal["equal settings", "other settings", "tokens × parameters"]
BASIS_IN_WORDS: dict[Basis, str] = {
    "equal settings": "earlier runs with these settings",
    "other settings": "earlier runs with other settings, in proportion to the tokens",
    "tokens × parameters": "tokens × parameters, for want of runs",
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
    disk_mb: Range | None
    source: Basis
    runs: int
    """Number of runs behind the figures; 0 if they follow from tokens × parameters."""


@dataclass(frozen=True)
class Work:
    """The tokens that a stage reads, trains on and writes, as far as its settings give them."""

    read: float = 0
    trained: float = 0
    written: float = 0

    @property
    def operations(self) -> float:
        """The operations for each parameter of the model."""
        return READ * self.read + TRAIN * self.trained + WRITE * self.written


def _evaluated(number: Callable[[str], float]) -> Work:
    losses = number("evaluate.domain_tokens") + 2 * number("evaluate.text_tokens")
    items = number("evaluate.pass_items") + number("evaluate.gate_items") + number("evaluate.human_eval")
    answers = items * (1 + number("evaluate.samples")) * number("evaluate.max_new_tokens")
    return Work(read=2 * losses, written=answers)  # the gate set is measured as the test set is


WORK: dict[str, Callable[[Callable[[str], float]], Work]] = {
    "pretrain": lambda number: Work(trained=number("pretrain.max_tokens")),
    "tune": lambda number: Work(trained=number("tune.max_tokens")),
    "diagnose": lambda number: Work(read=8 * number("diagnose.max_tokens")),  # two losses and six judgements
    "compress": lambda number: Work(read=2 * number("compress.valid_tokens")),
    "evaluate": _evaluated,
}
"""Stage → its work by its settings. That of the other stages follows from the data."""


def for_stages(stages: Sequence[str]) -> dict[str, StageEstimate]:
    """Return the estimate of each stage that has one."""
    config, known = configuration.load(), set(configuration.stage_names())
    families = dict.fromkeys(name for stage in stages if (name := stage.partition("@")[0]) in known)
    runs = run_history.past(families)
    estimates = {name: _estimate(name, config, runs.get(name, [])) for name in families}
    return {stage: estimate for stage in stages if (estimate := estimates.get(stage.partition("@")[0]))}


def for_training(stage: str, tokens: int) -> StageEstimate | None:
    """Return the estimate of a stage that trains on so many tokens, with params.yaml's other settings; None if nothing is known."""
    past = run_history.past([stage]).get(stage, [])
    runs = [run for run in past if _work(stage, run.config).trained]  # a model that passed through was not trained
    return _estimate(stage, configuration.load(), runs, {f"{stage}.max_tokens": str(tokens)})


def _estimate(
    stage: str, config: PipelineConfig, runs: Sequence[Past], changes: dict[str, str] | None = None
) -> StageEstimate | None:
    now = {name: str(value) for name, value in runner.as_recorded(configuration.for_stage(stage, config)).items()}
    now |= changes or {}
    machine = " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items())
    comparable = [past for past in runs if past.machine == machine]  # another machine's times say little
    return from_runs(stage, now, comparable) if comparable else from_model(stage, now, config)


def from_runs(stage: str, now: Mapping[str, str], runs: Sequence[Past]) -> StageEstimate:
    """Return the range of the runs nearest to these settings; the latest is first in `runs`."""
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
    """Return the seconds a run took, and those it would have taken if all of them were in proportion to the tokens."""
    operations, then = _work(stage, now).operations, _work(stage, past.config).operations
    return [past.seconds, past.seconds * operations / then] if operations and then else [past.seconds]


def _range(values: Sequence[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    return Range(min(known), max(known)) if known else None


def from_model(stage: str, now: Mapping[str, str], config: PipelineConfig) -> StageEstimate | None:
    """Return the estimate by tokens × parameters; None if the settings do not give the tokens or the parameters are not known."""
    parameters = _parameters(config.fetch.model.model_dump())
    if stage not in WORK or config.compute.device != "cpu" or not parameters:
        return None
    weights_mb = 4 * parameters / MB
    work = _work(stage, now)
    if not work.operations or now.get("compress.compressor") == "none":
        seconds, memory = Range(*IDLE_S), Range(*IDLE_MB)
    else:
        took = work.operations * parameters / _speed(config.compute.threads)
        seconds = Range(START_S[0] + took / SPREAD, START_S[1] + took * SPREAD)
        states_mb = (
            3 * weights_mb if work.trained and not _adapts(stage, now) else 0.0
        )  # gradients, both moments of AdamW
        memory = Range(IDLE_MB[0] + weights_mb / 2 + states_mb, IDLE_MB[1] + SPREAD * (weights_mb + states_mb))
    return StageEstimate(seconds, memory, _disk(stage, now, weights_mb), "tokens × parameters", runs=0)


def _adapts(stage: str, now: Mapping[str, str]) -> bool:
    return now.get(f"{stage}.adapter", "none") != "none"


def _disk(stage: str, now: Mapping[str, str], weights_mb: float) -> Range | None:
    """Return the size of the model that a stage writes; other outputs are tables, and small."""
    if stage in ("pretrain", "tune"):
        adapts = stage == "tune" and _adapts(stage, now)  # an adapter of `pretrain` is merged
        return Range(0, weights_mb / 4) if adapts else Range(weights_mb / 2, weights_mb * 1.5)
    return Range(0, weights_mb) if stage == "compress" else None


def _work(stage: str, recorded_settings: Mapping[str, str]) -> Work:
    def number(name: str) -> float:
        try:
            return float(recorded_settings.get(name, 0))
        except ValueError:
            return 0.0

    return WORK[stage](number) if stage in WORK else Work()


def _parameters(model: Mapping[str, Any]) -> float | None:
    """Return the number of parameters of the base: by its files, by its shape in the settings, or by its name (`…-7B-…`)."""
    if files := list(BASE.glob("*.safetensors")):
        config = json.loads((BASE / "config.json").read_text(encoding="utf-8"))
        width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype")) else 4
        return sum(file.stat().st_size for file in files) / width
    if {"hidden", "layers", "mlp"} <= model.keys():
        return float(model["layers"] * model["hidden"] * (4 * model["hidden"] + 3 * model["mlp"]))
    named = re.search(r"(\d+(?:\.\d+)?)([MB])\b", str(model.get("id") or model.get("path") or ""))
    return float(named[1]) * {"M": 1e6, "B": 1e9}[named[2]] if named else None


def _speed(threads: int) -> float:
    """Measure the operations per second of so many threads by a product of matrices, here and now."""
    import numpy as np

    a = np.ones((1024, 1024), dtype=np.float32)
    a @ a  # its threads begin
    start = time.perf_counter()
    a @ a
    per_second = 2 * len(a) ** 3 / (time.perf_counter() - start)
    return per_second * min(1.0, threads / (os.cpu_count() or 1))


def as_time(seconds: Range) -> str:
    """Format a range of seconds: `40–70 s`, `3–5 min`, `1.2–2.0 h`."""
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
