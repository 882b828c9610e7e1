"""What a stage will take: seconds, memory, disk.

From the runs of it that MLflow remembers: those with equal settings, else those with the fewest others. Where the settings say
how many tokens a stage works through, and the runs worked through another number, the seconds lie between the run's own and those
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

from tasks import run, settings
from tasks.io import provenance, run_history
from tasks.io.run_history import Past

SHOWN = 5
"""Runs that a range spans, the latest of the nearest."""
BASE = Path("models/base")
MB = 2**20
START_S = (3.0, 20.0)
"""What a stage that runs a model takes beside its tokens: imports, reading and writing weights."""
IDLE_S, IDLE_MB = (0.5, 10.0), (100.0, 2000.0)
"""What one takes that has nothing to compute, and what every stage takes beside weights and the states of an optimizer."""
SPREAD = 3.0
"""So many times longer or shorter than the operations alone say: a machine does not multiply all the time, and bf16 is faster."""
READ, TRAIN, WRITE = 2.0, 6.0, 20.0
"""Operations for each parameter and token that is read, trained on, or written; written tokens wait for memory."""
Source = Literal["equal settings", "other settings", "tokens × parameters"]
WORDS: dict[Source, str] = {
    "equal settings": "earlier runs with these settings",
    "other settings": "earlier runs with other settings, in proportion to the tokens",
    "tokens × parameters": "tokens × parameters, for want of runs",
}


@dataclass(frozen=True)
class Range:
    """From the least to the most that is expected."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a stage will take, where anything is known of it."""

    seconds: Range
    memory_mb: Range | None
    disk_mb: Range | None
    source: Source
    runs: int
    """Those behind the figures; 0 where they follow from tokens × parameters."""


@dataclass(frozen=True)
class Work:
    """The tokens that a stage works through, as far as its settings tell."""

    read: float = 0
    trained: float = 0
    written: float = 0

    @property
    def operations(self) -> float:
        """For each parameter of the model."""
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
"""Stage → its work by its settings. The others' follows from the data: only their runs can tell."""


def of(stages: Sequence[str]) -> dict[str, Estimate]:
    """What each of these stages will take, for those of which anything is known."""
    everything, known = settings.load(), set(settings.stage_names())
    families = dict.fromkeys(name for stage in stages if (name := stage.partition("@")[0]) in known)
    runs = run_history.past(families)
    found = {name: _of(name, everything, runs.get(name, [])) for name in families}
    return {stage: estimate for stage in stages if (estimate := found.get(stage.partition("@")[0]))}


def of_training(stage: str, tokens: int) -> Estimate | None:
    """What a stage will take where it trains on so many tokens, all else as params.yaml has it; None where nothing is known."""
    past = run_history.past([stage]).get(stage, [])
    runs = [one for one in past if _work(stage, one.settings).trained]  # where a model passed through, nothing trained
    return _of(stage, settings.load(), runs, {f"{stage}.max_tokens": str(tokens)})


def _of(stage: str, everything: Any, runs: Sequence[Past], changes: dict[str, str] | None = None) -> Estimate | None:
    now = {name: str(value) for name, value in run.as_recorded(settings.for_stage(stage, everything)).items()}
    now |= changes or {}
    here = " · ".join(f"{part} {value}" for part, value in provenance.machine_class().items())
    ours = [one for one in runs if one.machine == here]  # another machine's times say little
    return from_runs(stage, now, ours) if ours else from_model(stage, now, everything)


def from_runs(stage: str, now: Mapping[str, str], runs: Sequence[Past]) -> Estimate:
    """What the runs nearest to these settings took, the latest first in `runs`."""
    others = [sum(one.settings.get(name) != value for name, value in now.items()) for one in runs]
    nearest = [one for one, count in zip(runs, others, strict=True) if count == min(others)][:SHOWN]
    seconds = [value for one in nearest for value in _seconds(stage, now, one)]
    return Estimate(
        seconds=Range(min(seconds), max(seconds)),
        memory_mb=_range([one.memory_mb for one in nearest]),
        disk_mb=_range([one.output_mb for one in nearest]),
        source="other settings" if min(others) else "equal settings",
        runs=len(nearest),
    )


def _seconds(stage: str, now: Mapping[str, str], one: Past) -> list[float]:
    """What a run took, and what it would have taken if all of it went with the tokens."""
    asked, then = _work(stage, now).operations, _work(stage, one.settings).operations
    return [one.seconds, one.seconds * asked / then] if asked and then else [one.seconds]


def _range(values: Sequence[float | None]) -> Range | None:
    there = [value for value in values if value is not None]
    return Range(min(there), max(there)) if there else None


def from_model(stage: str, now: Mapping[str, str], everything: Any) -> Estimate | None:
    """What follows from tokens × parameters; None where the settings do not tell the tokens, or nobody knows the parameters."""
    parameters = _parameters(everything.fetch.model.model_dump())
    if stage not in WORK or everything.compute.device != "cpu" or not parameters:
        return None
    weights_mb = 4 * parameters / MB
    work = _work(stage, now)
    if not work.operations or now.get("compress.compressor") == "none":
        seconds, memory = Range(*IDLE_S), Range(*IDLE_MB)
    else:
        took = work.operations * parameters / _speed(everything.compute.threads)
        seconds = Range(START_S[0] + took / SPREAD, START_S[1] + took * SPREAD)
        states_mb = (
            3 * weights_mb if work.trained and not _adapts(stage, now) else 0.0
        )  # gradients, both moments of AdamW
        memory = Range(IDLE_MB[0] + weights_mb / 2 + states_mb, IDLE_MB[1] + SPREAD * (weights_mb + states_mb))
    return Estimate(seconds, memory, _disk(stage, now, weights_mb), "tokens × parameters", runs=0)


def _adapts(stage: str, now: Mapping[str, str]) -> bool:
    return now.get(f"{stage}.adapter", "none") != "none"


def _disk(stage: str, now: Mapping[str, str], weights_mb: float) -> Range | None:
    """What a model takes there; other outputs are tables, and small."""
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
    """How many the base has: by its files, by its shape in the settings, or by its name (`…-7B-…`)."""
    if files := list(BASE.glob("*.safetensors")):
        config = json.loads((BASE / "config.json").read_text(encoding="utf-8"))
        width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype")) else 4
        return sum(file.stat().st_size for file in files) / width
    if {"hidden", "layers", "mlp"} <= model.keys():
        return float(model["layers"] * model["hidden"] * (4 * model["hidden"] + 3 * model["mlp"]))
    named = re.search(r"(\d+(?:\.\d+)?)([MB])\b", str(model.get("id") or model.get("path") or ""))
    return float(named[1]) * {"M": 1e6, "B": 1e9}[named[2]] if named else None


def _speed(threads: int) -> float:
    """Operations a second of so many threads: what a product of matrices reaches here and now."""
    import numpy as np

    a = np.ones((1024, 1024), dtype=np.float32)
    a @ a  # its threads begin
    start = time.perf_counter()
    a @ a
    whole = 2 * len(a) ** 3 / (time.perf_counter() - start)
    return whole * min(1.0, threads / (os.cpu_count() or 1))


def as_time(found: Range) -> str:
    """`40–70 s`, `3–5 min`, `1.2–2.0 h`."""
    unit, seconds = next((u, s) for u, s, most in _UNITS if found.high < most)
    return _between(found.low / seconds, found.high / seconds, unit)


def as_size(found: Range) -> str:
    """`300–800 MB`, `1.2–3.0 GB`."""
    unit, mb = ("MB", 1) if found.high < 1000 else ("GB", 1024)
    return _between(found.low / mb, found.high / mb, unit)


def _between(low: float, high: float, unit: str) -> str:
    first, last = (f"{value:.0f}" if value >= 10 or unit in ("s", "MB") else f"{value:.1f}" for value in (low, high))
    return f"{last} {unit}" if first == last else f"{first}–{last} {unit}"


_UNITS = (("s", 1, 100), ("min", 60, 6000), ("h", 3600, float("inf")))
