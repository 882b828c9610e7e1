"""Train a bank: one adapter for each task or domain, each trained from the same base on its own rows only, and stored separately.

A member's folder in the cache is named by a hash of everything that determines its bytes. So a new task trains one more adapter, and a task
whose rows changed retrains only its own. An interrupted run continues with the member that it was training. Stage `tune` trains a bank by
task, stage `pretrain` one by domain.
"""

import gc
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.core.config import Config
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.core.text.calls import Call
from tasks.engine.inference import embedding
from tasks.engine.training.compose import Composition
from tasks.io import provenance, stage_outputs
from tasks.io.system import files
from tasks.io.weights import banks, checkpoints

T = TypeVar("T")
KEPT = "banks"
"""The folder of finished members in a run's cache."""
TEXTS = 64
"""Prompts or texts whose mean hidden states describe a member."""
Train = Callable[[Mapping[str, Path], Path, Run], None]
"""Trains on these inputs, and writes the adapter to a new folder."""


@dataclass(frozen=True)
class Plan:
    """The members of a bank, and what each trains on."""

    stage: str
    by: banks.By
    counts: Mapping[str, int]
    """Name of a member → the number of its rows."""
    rows_of: Callable[[str, Path], Mapping[str, Path]]
    """Writes a member's own rows to a folder, and returns all inputs of its training, the base included."""


class MemberRun:
    """The part of a run that trains one member: its metrics have the member's name as prefix, and its checkpoints a folder of their own."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name

    @property
    def item(self) -> str:
        return f"{self._run.item}/{self._name}" if self._run.item else self._name

    @property
    def work(self) -> Path:
        folder = self._run.work / self._name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def cache(self) -> Path:
        return self._run.cache

    def say(self, text: str) -> None:
        self._run.say(text)

    def note(self, **params: Any) -> None:
        self._run.note(**{f"{self._name}/{key}": value for key, value in params.items()})

    def log(self, step: int | None = None, **metrics: float) -> None:
        self._run.log(step, **{f"{self._name}/{key}": value for key, value in metrics.items()})

    def add(self, **metrics: float) -> None:
        self._run.add(**{f"{self._name}/{key}": value for key, value in metrics.items()})

    def trace(self, call: Call) -> None:
        self._run.trace(call)

    def track(self, items: Iterable[T], **shown: Any) -> Iterator[T]:
        return self._run.track(items, **shown)


def train(plan: Plan, base: Path, output: Path, config: Config, parts: Composition, run: Run, member: Train) -> None:
    """Train every member of a bank with `member`, or take it from the cache, and write them all with the bank's card and figures.

    Raises ValueError if two names would have the same folder.
    """
    folders = banks.folder_names(plan.counts, plan.by)
    output.mkdir(parents=True)
    for name, folder in folders.items():
        member_run = MemberRun(run, folder)
        inputs = plan.rows_of(name, member_run.work)
        kept = run.cache / KEPT / _key(plan.stage, inputs, config, parts)
        if _is_whole(kept):
            run.say(
                f"{label(plan.stage, member_run)}: taken from the cache, which has it of the same base, rows and settings"
            )
        else:
            with files.atomic_path(kept) as partial:
                member(inputs, partial, member_run)
            gc.collect()  # trainer, callbacks and model form reference cycles, which would stay in memory beside the next member's
        stage_outputs.copy(kept, output / folder)
        shutil.rmtree(member_run.work)
    made = {
        name: banks.Member(folder, checkpoints.read_card(output / folder)["weights"], plan.counts[name])
        for name, folder in folders.items()
    }
    courses = [json.loads((output / name / "training.json").read_text(encoding="utf-8")) for name in folders.values()]
    (output / "training.json").write_text(json.dumps(summary(courses), indent=1) + "\n", encoding="utf-8")
    settings, parent = config.model_dump(mode="json"), checkpoints.read_card(base).get("weights")
    banks.write_card(output, made, plan.by, method=parts.names, settings=settings, parent=parent)
    run.say(f"{label(plan.stage, run)}: a bank of {len(made)} adapters: {', '.join(made)}")


def obstacle(parts: Composition, processes: int) -> str:
    """Return the reason why a composition cannot train a bank; empty if it can. Members share a base and are trained one after the other."""
    if parts.expander.name != "none":
        return f"expander {parts.expander.name!r} makes the base larger, on which its other members are based"
    if parts.selector.spec.merges:
        return f"selector {parts.selector.name!r} changes the base's weights, on which its other members are based"
    if processes > 1:
        return "compute.processes share one training, and those of a bank come one after the other"
    return ""


def label(stage: str, run: Run) -> str:
    """Return the name of a training in lines of output."""
    return f"{stage} {run.item}" if run.item else stage


def _key(stage: str, inputs: Mapping[str, Path], config: Config, parts: Composition) -> str:
    """Return a hash of everything that determines a member's bytes: base, rows, settings, code and class of machine."""
    families = {f"{kind}s": part.name for kind, part in vars(parts).items()}
    modules = [f"tasks.methods.{kind}.{name}.method" for kind, name in families.items()]
    basis = {
        "inputs": {name: provenance.digest(path) for name, path in sorted(inputs.items())},
        "settings": config.model_dump(mode="json"),
        "code": [
            provenance.code_digest(provenance.closure(module)) for module in (f"tasks.stages.{stage}.stage", *modules)
        ],
        "machine": provenance.machine_class(),
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:32]


def _is_whole(kept: Path) -> bool:
    """Return whether the cache has a member whose weights match the digest in its card."""
    return kept.is_dir() and checkpoints.read_card(kept).get("weights") == checkpoints.weights_digest(kept)


def spread(rows: Sequence[T]) -> list[T]:
    """Return some rows, evenly spaced over a table, to describe a member by."""
    count = min(len(rows), TEXTS)
    return [rows[number * len(rows) // count] for number in range(count)]


def centroid(model: Any, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Return mean and variance, over some texts given as token ids, of the model's mean hidden states in some layers, (2, L, H)."""
    states_NLH = embedding.by_layer(model, texts)
    return np.stack([states_NLH.mean(axis=0), states_NLH.var(axis=0)])


def validation_tokens(valid: Mapping[str, Sequence[Encoded]]) -> dict[str, int]:
    """Return the trained tokens of each validation set: the weights by which the losses of a bank's members are averaged."""
    return {name: sum(sequence.num_trained for sequence in sequences) for name, sequences in valid.items()}


def summary(courses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the contents of a bank's training.json: sums over its members, and mean losses, each row under its own adapter."""
    tokens = sum(course["tokens"] for course in courses)
    measured = {}
    for name in sorted({name for course in courses for name in course["measured"]}):
        rows = [
            (course["measured"][name], course["validation_tokens"][name])
            for course in courses
            if name in course["measured"]
        ]
        total = sum(count for _, count in rows)
        before, after = (round(sum(points[place][1] * count for points, count in rows) / total, 6) for place in (0, -1))
        measured[name] = [[0, before], [tokens, after]]
    return {
        "composition": courses[0]["composition"],
        "loss": [],
        "measured": measured,
        "validated_on": [course["validated_on"] for course in courses],
        "tokens": tokens,
        "trainable": sum(course["trainable"] for course in courses),
        "active": max(course["active"] for course in courses),
        "parameters": courses[0]["parameters"],
        "adapters": len(courses),
    }
