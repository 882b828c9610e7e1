"""The licences of a model's base and of the examples and texts on which it was trained."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from tasks.core.licenses.expressions import UNKNOWN
from tasks.io.weights import checkpoints

TUNED = Path("models/tuned")
TRAINED = "training.json"
"""The file that a trained model has. Without it, a stage passed on its base model."""

Holders = Mapping[str, list[str]]
"""Licence → names of the data or models that have it."""


def holders(model: Path, *, base: Path, pretrained: Path, rounds: Path, documents: Path) -> Holders:
    """Return each licence that applies to a model, with its origins.

    `base` is the folder of the first base model, and `pretrained` that of the model after training on the texts in `documents`. `rounds` holds the
    examples of each round. A model that belongs to no round (a merged or compressed one) has those of all rounds.
    """
    tables = sorted(rounds.glob("*/examples.parquet"))
    if model.parent == TUNED:
        tables = [table for table in tables if table.parent.name == model.name]
    if (pretrained / TRAINED).is_file():
        tables.append(documents)
    reached: dict[str, set[str]] = defaultdict(set)
    for license, holder in (pair for table in tables for pair in of_table(table)):
        reached[license].add(holder)
    reached[of_base(base)].add("the base model")
    return {license: sorted(names) for license, names in sorted(reached.items())}


def of_base(folder: Path) -> str:
    """Return the licence of the first base model, recorded by `fetch`; `unknown` if its source states none."""
    return str(checkpoints.read_card(folder).get("source", {}).get("license") or UNKNOWN)


def of_table(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each licence in a table of examples or documents, with each origin that has it: a package, a folder or a file."""
    table = pl.scan_parquet(path)
    is_corpus = "messages" not in table.collect_schema()
    origin = pl.col("source").str.split(":").list.first() if is_corpus else pl.col("domain")
    pairs = table.select("license", origin.alias("origin")).unique().sort("license", "origin").collect()
    yield from pairs.iter_rows()
