"""The bank of stage `tune`: one adapter for each task."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from tasks.core.records import Example, FaultPair
from tasks.core.stage import Run
from tasks.engine import bank_training
from tasks.engine.training.compose import Composition
from tasks.io import tables
from tasks.io.weights import banks
from tasks.stages.tune.config import Mixture, StageConfig


def train(
    inputs: Mapping[str, Path],
    output: Path,
    config: StageConfig,
    parts: Composition,
    run: Run,
    member: bank_training.Train,
) -> None:
    """Train an adapter for every task by calling `member`.

    Raises ValueError if the settings do not allow a bank, if two tasks would share a folder, and if a task has too few examples.
    """
    if reason := _obstacle(config, parts):
        raise ValueError(f"tune.bank: these settings allow no bank: {reason}. Leave that out, or set tune.bank: none.")
    counts = _counts(inputs["examples"], config.tune.bank_examples)
    reads_texts = config.tune.replay or (config.tune.probe.tokens and config.tune.probe.corpus != "examples")
    read = {name: path for name, path in inputs.items() if name != "documents" or reads_texts}
    plan = bank_training.Plan("tune", "task", counts, partial(_rows_of, inputs=read, parts=parts))
    bank_training.train(plan, inputs["base"], output, config, parts, run, member)


def _obstacle(config: StageConfig, parts: Composition) -> str:
    if config.tune.start:
        return "tune.start names one adapter to begin with, and a bank has several"
    if config.tune.mixture != Mixture():
        return "tune.mixture weighs domains, of which a task may have none"
    return banks.unfit(parts.adapter.name) or bank_training.obstacle(parts, config.compute.processes)


def _counts(examples: Path, least: int) -> dict[str, int]:
    """Return the number of examples of each task. Raises ValueError if one has fewer than `least`, and if there is no task."""
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


def _rows_of(task: str, folder: Path, *, inputs: Mapping[str, Path], parts: Composition) -> dict[str, Path]:
    """Write a task's training and validation examples, and the rows of the objective's table that belong to them, to `folder`."""
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
    return dict(inputs) | of_task
