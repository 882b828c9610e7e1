"""Check that a model has what registration needs: results on the gate set, and the lineage of the examples that it was trained on."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tasks.core import origins
from tasks.core.records import Lineage
from tasks.core.stage import Model
from tasks.io import tables
from tasks.io.data_licenses import TUNED

NAMED = 3
"""Most examples that a message names."""


def lacking(name: str, model: Model, inputs: Mapping[str, Path]) -> str:
    """Return a message that says which part of a model's evaluation or lineage is missing, with a remedy; empty if none is."""
    results = inputs["gate"] / f"{name}.parquet"
    if not results.is_file():
        return f"{name} has no evaluation: {results} is missing. `ratchet run evaluate` writes it"
    if Path(model.path).parent != TUNED:
        return ""  # any other model was made from models of rounds
    table = _table(model, inputs["rounds"])
    if not table.is_file():
        return f"{name} has no lineage: {table} is missing, the examples that it was trained on. `ratchet run` makes what comes first"
    if untold := _untold(model, inputs["rounds"]):
        told = f"{', '.join(untold[:NAMED])}{f' and {len(untold) - NAMED:,} more' if len(untold) > NAMED else ''}"
        return (
            f"{name} has no lineage of {len(untold):,} of its examples ({told}): they are neither of the first round nor in a "
            "`lineage.parquet` of a later one. `ratchet run refine` recreates the rounds"
        )
    return ""


def origins_of(model: Model, rounds: Path) -> dict[str, int]:
    """Return how many examples of a model's round have each origin; empty for a model that belongs to no round."""
    table = _table(model, rounds)
    is_round = Path(model.path).parent == TUNED and table.is_file()
    return origins.count(_ids(table), _known(rounds)) if is_round else {}


def _untold(model: Model, rounds: Path) -> list[str]:
    """Return the ids of a round's examples whose origin no table of lineage records."""
    table = _table(model, rounds)
    known = _known(rounds)
    return [one for one in _ids(table) if one not in known]


def _known(rounds: Path) -> dict[str, origins.Origin]:
    """Return the origin of each example, as far as the rounds record it."""
    first: list[str] = []
    later: list[list[Lineage]] = []
    for folder in sorted((path.parent for path in rounds.glob("*/examples.parquet")), key=_place):
        lineage = folder / "lineage.parquet"
        if lineage.is_file():
            later.append(tables.read(lineage, Lineage))
        else:
            first += _ids(folder / "examples.parquet")
    return origins.trace(first, later)


def _place(folder: Path) -> tuple[int, int, str]:
    """Return the sort key of a round: the highest round number of its examples, then its name, r9 before r10."""
    made = pl.scan_parquet(folder / "examples.parquet").select(pl.col("round").max()).collect().item()
    return (made or 0, len(folder.name), folder.name)


def _table(model: Model, rounds: Path) -> Path:
    return rounds / Path(model.path).name / "examples.parquet"


def _ids(table: Path) -> list[str]:
    ids: list[str] = pl.scan_parquet(table).select("id").collect()["id"].to_list()
    return ids
