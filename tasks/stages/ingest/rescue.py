"""Account for records that a person rescued: those that are kept, and those that stay refused.

A rescue overrules every rule except three. Copies of a kept record stay out. So do records that `ingest.exclude` names, and records that
overlap evaluation data: no decision may allow training on them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from tasks.core.records import Decision
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.shards.collection import Shards

LEAK = "leak"
COPY = "duplicate"


def record(
    rescues: Mapping[str, Decision], shards: Shards, corpora: Iterable[Corpus], refusals: pl.LazyFrame
) -> dict[str, Any]:
    """Return the number of rescued records that are kept, by id the reason and author of those that stay refused, and the ids not found."""
    rows = refusals.filter(pl.col("id").is_in(list(rescues)), pl.col("reason") != COPY).select("id", "reason").collect()
    refused = dict(sorted(rows.iter_rows()))
    read = {document.id for corpus in corpora for document in corpus.documents}.union(
        shards.ids_among(rescues), refused
    )
    return {
        "kept": len(rescues.keys() & read - refused.keys()),
        "refused": {identity: {"reason": why, "author": rescues[identity].author} for identity, why in refused.items()},
        "about nothing here": sorted(rescues.keys() - read),
    }


def in_words(rescued: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line about the kept records, one for each record that stays refused, and one about decisions on records that were not read."""
    yield f"rescued: {rescued['kept']} records are kept whatever rules say (data/review_records.jsonl)"
    for identity, row in rescued["refused"].items():
        because = (
            "it overlaps data on which models are evaluated, and no decision allows training on it"
            if row["reason"] == LEAK
            else row["reason"]
        )
        yield f"{identity} stays refused, though {row['author']} rescued it: {because}"
    if absent := rescued["about nothing here"]:
        yield f"{len(absent)} rescues are about records that are not here: {', '.join(absent)}"
