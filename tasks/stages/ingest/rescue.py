"""Account for records that a person rescued: those that are kept, and those that stay refused all the same.

A rescue overrules every rule but three: a copy of a record that is kept stays out, and so does what `ingest.exclude` names, and what
models are evaluated by, on which nothing may be trained whoever decides it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from tasks.core.records import Decision
from tasks.stages.ingest.corpus import Corpus
from tasks.stages.ingest.shards.collection import Shards

LEAK = "leak"
COPY = "duplicate"


def record(rescues: Mapping[str, Decision], shards: Shards, corpus: Corpus, refusals: pl.LazyFrame) -> dict[str, Any]:
    """Return the number of rescued records that are kept, and by id those that stay refused with the reason, and those that are not here."""
    rows = refusals.filter(pl.col("id").is_in(list(rescues)), pl.col("reason") != COPY).select("id", "reason").collect()
    refused = dict(sorted(rows.iter_rows()))
    read = {document.id for document in corpus.documents}.union(shards.ids_among(rescues), refused)
    return {
        "kept": len(rescues.keys() & read - refused.keys()),
        "refused": {identity: {"reason": why, "author": rescues[identity].author} for identity, why in refused.items()},
        "about nothing here": sorted(rescues.keys() - read),
    }


def in_words(rescued: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for what is kept, for each record that stays refused, and for decisions about records that are not here."""
    yield f"rescued: {rescued['kept']} records are kept whatever rules say (data/review_records.jsonl)"
    for identity, row in rescued["refused"].items():
        because = (
            "nothing is trained on that models are evaluated by, and no decision overrules that"
            if row["reason"] == LEAK
            else row["reason"]
        )
        yield f"{identity} stays refused, though {row['author']} rescued it: {because}"
    if absent := rescued["about nothing here"]:
        yield f"{len(absent)} rescues are about records that are not here: {', '.join(absent)}"
