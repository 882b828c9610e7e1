"""A bank: one adapter a task, each trained from the same base on the examples of its task alone, and kept apart.

What a member's bytes follow from names its folder in the cache: a new task trains one adapter more, and changed examples of a task
train that one anew. A run that was ended goes on with the member it was at.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.records import Example, FaultPair
from tasks.core.stage import Run
from tasks.core.text.calls import Call
from tasks.engine.inference import embedding, prompt_encoding
from tasks.engine.training.compose import Composition
from tasks.io import provenance, stage_outputs, tables
from tasks.io.system import files
from tasks.io.weights import banks, checkpoints
from tasks.stages.tune.config import Mixture, StageConfig

T = TypeVar("T")
KEPT = "banks"
"""The folder of finished members in a run's cache."""
PROMPTS = 64
"""Prompts of a task whose mean hidden states describe it."""
Train = Callable[[Mapping[str, Path], Path, Run], None]
"""Trains on these inputs, and writes the adapter to a new folder."""


class MemberRun:
    """The part of a run that trains one member: its figures stand under its name, and its unfinished work in a folder of its own."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name

    @property
    def item(self) -> str:
        return f"{self._run.item}/{self._name}"

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

    def trace(self, call: Call) -> None:
        self._run.trace(call)

    def track(self, items: Iterable[T], **shown: Any) -> Iterator[T]:
        return self._run.track(items, **shown)


def train(
    inputs: Mapping[str, Path], output: Path, config: StageConfig, parts: Composition, run: Run, member: Train
) -> None:
    """Train the adapter of every task by `member`, or take it from the cache, and write them with the bank's card and figures.

    Raises ValueError for settings that no bank can have, for tasks whose folders would be one, and for one of too few examples.
    """
    _check(config, parts)
    counts = _counts(inputs["examples"], config.tune.bank_examples)
    folders = banks.folder_names(counts)
    output.mkdir(parents=True)
    for task, name in folders.items():
        member_run = MemberRun(run, name)
        of_task = dict(inputs) | _rows_of(task, inputs, member_run.work, parts)
        kept = run.cache / KEPT / _key(of_task, config, parts)
        if _is_whole(kept):
            run.say(
                f"tune {member_run.item}: taken from the cache, which has it of the same base, examples and settings"
            )
        else:
            with files.atomic_path(kept) as partial:
                member(of_task, partial, member_run)
        stage_outputs.copy(kept, output / name)
        shutil.rmtree(member_run.work)
    made = {
        task: banks.Member(name, checkpoints.read_card(output / name)["weights"], counts[task])
        for task, name in folders.items()
    }
    courses = [json.loads((output / name / "training.json").read_text(encoding="utf-8")) for name in folders.values()]
    (output / "training.json").write_text(json.dumps(summary(courses), indent=1) + "\n", encoding="utf-8")
    settings, parent = config.model_dump(mode="json"), checkpoints.read_card(inputs["base"]).get("weights")
    banks.write_card(output, made, method=parts.names, settings=settings, parent=parent)
    run.say(f"tune {run.item}: a bank of {len(made)} adapters: {', '.join(made)}")


def _check(config: StageConfig, parts: Composition) -> None:
    """Raise ValueError for settings under which the members would not stand on one base, or not be trained alike."""
    if reason := _obstacle(config, parts):
        raise ValueError(f"tune.bank: no bank can be trained so: {reason}. Leave that out, or set tune.bank: none.")


def _obstacle(config: StageConfig, parts: Composition) -> str:
    tune = config.tune
    if reason := banks.unfit(parts.adapter.name):
        return reason
    if parts.expander.name != "none":
        return f"expander {parts.expander.name!r} makes the base larger, which its other members stand on"
    if parts.selector.spec.merges:
        return f"selector {parts.selector.name!r} changes the base's weights, which its other members stand on"
    if tune.start:
        return "tune.start names one adapter to begin with, and a bank has several"
    if tune.mixture != Mixture():
        return "tune.mixture weighs domains, of which a task may have none"
    if config.compute.processes > 1:
        return "compute.processes share one training, and those of a bank come one after the other"
    return ""


def _counts(examples: Path, least: int) -> dict[str, int]:
    """Return the number of examples of each task."""
    counted = tables.scan([examples], Example).group_by("task").len().collect()
    counts = dict(sorted(counted.iter_rows()))
    if few := [task for task, count in counts.items() if count < least]:
        raise ValueError(
            f"tune.bank: task {few[0]!r} has {counts[few[0]]} examples, and an adapter is trained on no fewer than "
            f"tune.bank_examples={least}. Give the task more, leave it out of ingest.sources, or lower that setting."
        )
    if not counts:
        raise ValueError(f"{examples} holds no example, so there is no task to train an adapter for.")
    return counts


def _rows_of(task: str, inputs: Mapping[str, Path], folder: Path, parts: Composition) -> dict[str, Path]:
    """Write the rows of a task's own to `folder`: its examples, those it validates on, and what the objective's table holds of them."""
    of_task = {name: folder / f"{name}.parquet" for name in ("examples", "valid")}
    for name, path in of_task.items():
        tables.sink_query(path, tables.scan([inputs[name]], Example).filter(pl.col("task") == task), Example)
    if table := parts.objective.spec.table:
        ids = tables.scan([of_task["examples"]], Example).select(pl.col("id").alias("example"))
        of_task[table.name] = folder / f"{table.name}.parquet"
        pairs = tables.scan([inputs[table.name]], table.row).join(ids, on="example", how="semi", maintain_order="left")
        tables.sink_query(of_task[table.name], pairs, table.row)
    else:
        of_task["faults"] = folder / "faults.parquet"
        tables.write(of_task["faults"], [], FaultPair)
    return of_task


def _key(inputs: Mapping[str, Path], config: StageConfig, parts: Composition) -> str:
    """Return a hash of all that a member's bytes follow from: base, rows, settings, code and class of machine."""
    families = {f"{kind}s": part.name for kind, part in vars(parts).items()}
    modules = ["tasks.stages.tune.stage", *(f"tasks.methods.{kind}.{name}.method" for kind, name in families.items())]
    probed = config.tune.probe.tokens and config.tune.probe.corpus != "examples"
    basis = {
        "inputs": {
            name: provenance.digest(path) for name, path in sorted(inputs.items()) if name != "documents" or probed
        },
        "settings": config.model_dump(mode="json"),
        "code": [provenance.code_digest(provenance.closure(module)) for module in modules],
        "machine": provenance.machine_class(),
    }
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:32]


def _is_whole(kept: Path) -> bool:
    """Return whether the cache has a member whose weights are those of its card."""
    return kept.is_dir() and checkpoints.read_card(kept).get("weights") == checkpoints.weights_digest(kept)


def centroid(model: Any, tokenizer: Any, examples: Path) -> NDArray[np.float32]:
    """Return mean and variance of the model's mean hidden states in some layers over some prompts of a table, (2, L, H)."""
    rows = tables.read(examples, Example)
    spread = rows[:: max(1, len(rows) // PROMPTS)][:PROMPTS]
    ids = [prompt_encoding.prompt_ids(row.prompt, tokenizer, row.tools) for row in spread]
    states_NLH = embedding.by_layer(model, ids)
    return np.stack([states_NLH.mean(axis=0), states_NLH.var(axis=0)])


def summary(courses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the contents of a bank's training.json: sums over its members, and the mean loss of each example under its own task's adapter."""
    measured = [course for course in courses if course["measured"].get("validation")]
    total = sum(course["validation_tokens"] for course in measured)
    tokens = sum(course["tokens"] for course in courses)

    def mean(point: int) -> float:
        losses = [(course["measured"]["validation"][point][1], course["validation_tokens"]) for course in measured]
        return round(sum(loss * count for loss, count in losses) / total, 6)

    return {
        "composition": courses[0]["composition"],
        "loss": [],
        "measured": {"validation": [[0, mean(0)], [tokens, mean(-1)]]} if total else {},
        "tokens": tokens,
        "trainable": sum(course["trainable"] for course in courses),
        "active": max(course["active"] for course in courses),
        "parameters": courses[0]["parameters"],
        "adapters": len(courses),
    }
