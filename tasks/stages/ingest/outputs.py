"""Write the kept and the refused examples, a shard at a time, as tables that may be larger than memory."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.records import Example, Refusal, Split
from tasks.core.text.shingles import Indices
from tasks.core.text.visible import EXCERPT
from tasks.io import tables
from tasks.stages.ingest.config import IngestConfig
from tasks.stages.ingest.filtering.duplicates import near_duplicate_reason
from tasks.stages.ingest.filtering.examples import Decisions, Rule
from tasks.stages.ingest.quarantine import TOO_LONG, Hide, as_it_is, too_long
from tasks.stages.ingest.shards.collection import Shards
from tasks.stages.ingest.shards.shard import RESPONSE, SIDES, Shard
from tasks.stages.ingest.splits import SPLITS


def write_examples(paths: Mapping[Split, Path], benchmark: Path, shards: Shards, decisions: Decisions) -> None:
    """Write the kept examples of each split to its path in `paths`, and the examples of the benchmark to `benchmark`."""
    is_of_benchmark = np.arange(len(shards)) < decisions.num_benchmark
    _write_chosen(benchmark, shards, is_of_benchmark, "test")
    for split, path in paths.items():
        _write_chosen(path, shards, decisions.kept & (decisions.splits == SPLITS.index(split)), split)


def _write_chosen(path: Path, shards: Shards, is_chosen: NDArray[np.bool_], split: Split) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        for places, shard in shards:
            rows = np.flatnonzero(is_chosen[places])
            if len(rows):
                yield shard.examples()[rows].drop("file").with_columns(split=pl.lit(split))

    tables.sink(path, frames, Example)


def kept_of_files(shards: Shards, decisions: Decisions) -> Counter[str]:
    """Return the number of kept examples of each file, including items of benchmarks."""
    counts: Counter[str] = Counter()
    for places, shard in shards:
        files = shard.examples(["file"])["file"].filter(pl.Series(decisions.rules[places] == Rule.NONE))
        counts.update(dict(files.value_counts().iter_rows()))
    return counts


def refused_examples(
    shards: Shards, decisions: Decisions, config: IngestConfig, folder: Path, hide: Hide = as_it_is
) -> pl.LazyFrame:
    """Return the refusals of all examples that a rule refused, sorted by rule and then by example, as a table in files below `folder`.

    `hide` removes sensitive content from them.
    """
    refused = np.flatnonzero(decisions.rules != Rule.NONE)
    twins = decisions.twins[refused]
    sources = shards.sources(twins[twins >= 0])
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[Rule, list[Path]] = {rule: [] for rule in Rule}
    for number, (places, shard) in enumerate(shards):
        rows = np.flatnonzero(decisions.rules[places])
        refusals = hide(_refusals(shard, rows, places.start, decisions, sources, config))
        for rule in np.unique(decisions.rules[places][rows]).tolist():
            path = folder / f"{number:06d}-{rule}.parquet"
            refusals.filter(decisions.rules[places][rows] == rule).write_parquet(path)
            paths[Rule(rule)].append(path)
    ordered = [path for rule in Rule for path in paths[rule]]
    return tables.scan(ordered, Refusal)


def _refusals(
    shard: Shard, rows: Indices, start: int, decisions: Decisions, sources: dict[int, str], config: IngestConfig
) -> pl.DataFrame:
    """Return the refusals of some rows of a shard as a table."""
    facts = shard.facts()[rows]
    chars = zip(facts["prompt_chars"].tolist(), facts["response_chars"].tolist(), strict=True)
    numbers = (rows + start).tolist()
    explained = [
        _explained(number, decisions, sources, sizes, config) for number, sizes in zip(numbers, chars, strict=True)
    ]
    reasons, details = zip(*explained, strict=True) if explained else ((), ())
    examples = shard.examples(["file", "source", "messages", "id"])[rows]
    return examples.select(
        pl.col("file").alias("source"),
        pl.col("source").alias("where"),
        pl.Series("reason", reasons, pl.String),
        pl.Series("detail", details, pl.String),
        RESPONSE.str.head(EXCERPT).alias("record"),
        "id",
    )


def _explained(
    number: int, decisions: Decisions, sources: dict[int, str], chars: tuple[int, int], config: IngestConfig
) -> tuple[str, str]:
    """Return the reason why an example was refused, and the detail."""
    rule, twin = Rule(decisions.rules[number]), int(decisions.twins[number])
    is_of_benchmark = twin < decisions.num_benchmark
    if rule == Rule.TOO_LONG:
        return TOO_LONG, too_long(chars, (config.max_prompt_chars, config.max_response_chars))
    if rule == Rule.EQUAL:
        return "leak" if is_of_benchmark else "duplicate", f"the same as {sources[twin]}"
    if rule == Rule.OVER_LIMIT:
        return "over the limit", f"max_examples is {config.max_examples}"
    if rule == Rule.OVERLAPS:
        return "leak", f"overlaps {sources[twin]}"
    split = SPLITS[decisions.splits[twin]]
    is_same_split = not is_of_benchmark and decisions.splits[twin] == decisions.splits[number]
    likeness = _likeness(decisions.similarities[number])
    return near_duplicate_reason(sources[twin], split, is_same_split=is_same_split, likeness=likeness)


def _likeness(similarities: NDArray[np.float32]) -> str:
    """Return a text about the similarity of the sides that are near-duplicates."""
    shown = [f"{value:.2f} of the {side}s" for side, value in zip(SIDES, similarities.tolist(), strict=True) if value]
    return f"similarity {' and '.join(shown)}" if shown else "by embedding"
