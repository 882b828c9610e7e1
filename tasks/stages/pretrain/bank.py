"""The bank of stage `pretrain`: one adapter for each domain, beside the unchanged base."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import polars as pl

from tasks.core.records import GENERAL, Document
from tasks.core.stage import Run
from tasks.engine import bank_training
from tasks.engine.training.compose import Composition
from tasks.io import tables
from tasks.io.weights import banks, checkpoints
from tasks.methods.objectives import WHOLE_ANSWERS
from tasks.stages.pretrain.config import StageConfig


def train(
    inputs: Mapping[str, Path],
    output: Path,
    config: StageConfig,
    parts: Composition,
    run: Run,
    member: bank_training.Train,
) -> None:
    """Write the base unchanged, and to its folder `bank` an adapter for every domain, trained by `member`.

    Raises ValueError if the settings do not allow a bank, if two domains would share a folder, and if there is no domain text.
    """
    if reason := _obstacle(config, parts):
        raise ValueError(
            f"pretrain.bank: these settings allow no bank: {reason}. Change that, or set pretrain.bank: none."
        )
    plan = bank_training.Plan("pretrain", "domain", _counts(inputs["train"]), partial(_rows_of, inputs=inputs))
    checkpoints.pass_through(inputs["base"], output)
    bank_training.train(plan, inputs["base"], output / checkpoints.BANK, config, parts, run, member)
    shutil.copyfile(output / checkpoints.BANK / "training.json", output / "training.json")


def _obstacle(config: StageConfig, parts: Composition) -> str:
    adapter = parts.adapter.name
    if not parts.adapter.spec.of_domains:
        return banks.unfit(adapter) or bank_training.obstacle(parts, config.compute.processes)
    if not config.pretrain.replay:
        return f"adapter {adapter!r} needs general text beside the domain's, and pretrain.replay is 0"
    if parts.objective.spec.weighs == WHOLE_ANSWERS:
        return f"adapter {adapter!r} leaves the loss of general tokens out, and objective {parts.objective.name!r} weighs no single token"
    return bank_training.obstacle(parts, config.compute.processes)


def _counts(documents: Path) -> dict[str, int]:
    """Return the number of documents of each domain."""
    rows = tables.scan([documents], Document).filter(pl.col("domain") != GENERAL)
    counts = dict(sorted(rows.group_by("domain").len().collect().iter_rows()))
    if not counts:
        raise ValueError(
            f"{documents} holds no domain text. Name its sources in ingest.corpora.domain or ingest.corpora.domains."
        )
    return counts


def _rows_of(domain: str, folder: Path, *, inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Write a domain's documents and the general ones to `folder`, for both splits."""
    of_domain = {name: folder / f"{name}.parquet" for name in ("train", "valid")}
    for name, path in of_domain.items():
        rows = tables.scan([inputs[name]], Document).filter(pl.col("domain").is_in([domain, GENERAL]))
        tables.sink_query(path, rows, Document)
    return dict(inputs) | of_domain
