"""All shards of a run: read once, cached for later runs under a digest of their origin, with consecutive numbers of examples."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.records import Example, Refusal, SensitiveText
from tasks.core.stage import Run
from tasks.core.text.shingles import Indices, Words
from tasks.core.text.texts import Texts
from tasks.io import tables
from tasks.io.system import files
from tasks.io.system.workers import Workers
from tasks.stages.ingest.config import Datasets, IngestConfig, Query
from tasks.stages.ingest.quarantine import FORGOTTEN
from tasks.stages.ingest.reading.sources import label
from tasks.stages.ingest.screening.exclusion import PLACE, is_named, with_places
from tasks.stages.ingest.shards.parts import FilePart, Part, RowsPart, Summary, shards_in, written
from tasks.stages.ingest.shards.rows import Side
from tasks.stages.ingest.shards.shard import FACTS, MADE, RESPONSE, Shard
from tasks.stages.ingest.shards.workers import write_parts

LARGE_BLOCK = 20_000
"""Number of rows of small shards that are compared together."""


@dataclass(frozen=True)
class WordsOf:
    """The words of one side of consecutive shards, as a function that returns them."""

    shards: tuple[Shard, ...]
    side: Side

    @property
    def key(self) -> str:
        """A digest of the shards' origin; empty if one of them is recreated in every run."""
        names = [f"{shard.folder.name} {shard.number}" for shard in self.shards if shard.is_kept]
        if len(names) < len(self.shards):
            return ""
        return hashlib.sha256("\n".join([self.side, *names]).encode()).hexdigest()

    def __call__(self) -> Words:
        parts = [shard.words(self.side) for shard in self.shards]
        if len(parts) == 1:
            return parts[0]
        counts = np.concatenate([part.counts for part in parts])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Words(np.concatenate([part.hashes for part in parts]), offsets)


class Shards:
    """Shards, whose examples have consecutive numbers."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.all = list(shards)
        self.shards = [shard for shard in shards if shard.rows]
        self.starts: Indices = np.cumsum([0, *(shard.rows for shard in self.shards)], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self.starts[-1])

    def __iter__(self) -> Iterator[tuple[slice, Shard]]:
        """Yield each shard with the numbers of its examples."""
        for number, shard in enumerate(self.shards):
            yield slice(int(self.starts[number]), int(self.starts[number + 1])), shard

    def facts(self, name: str) -> NDArray[Any]:
        """Return a field of the facts of all examples."""
        return np.concatenate([np.zeros(0, FACTS[name]), *(shard.facts()[name] for shard in self.shards)])

    def texts(self, side: Side) -> Texts:
        """Return one side of all examples; small shards share a block."""
        blocks: list[list[Shard]] = []
        for shard in self.shards:
            if blocks and sum(other.rows for other in blocks[-1]) < LARGE_BLOCK:
                blocks[-1].append(shard)
            else:
                blocks.append([shard])
        counts = [sum(shard.rows for shard in block) for block in blocks]
        return Texts(counts, [WordsOf(tuple(block), side) for block in blocks])

    def sources(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return the sources of the examples with these numbers."""
        return {number: source for frame in self._rows(numbers, ["source"]) for number, source in frame.iter_rows()}

    def examples(self, numbers: Iterable[int]) -> dict[int, Example]:
        """Return the examples with these numbers."""
        frames = self._rows(numbers, list(tables.schema(Example)))
        return {
            number: example
            for frame in frames
            for number, example in zip(frame["number"], tables.records(frame, Example), strict=True)
        }

    def has_id(self, ids: Collection[str]) -> NDArray[np.bool_]:
        """Return True for each example whose id is one of `ids`."""
        chosen = np.zeros(len(self), bool)
        for places, shard in self if ids else ():
            chosen[places] = shard.examples(["id"])["id"].is_in(list(ids)).to_numpy()
        return chosen

    def held_out(self) -> NDArray[np.bool_]:
        """Return True for each example that its source holds out."""
        chosen = np.zeros(len(self), bool)
        for places, shard in self:
            chosen[places] = (shard.examples(["split"])["split"] != "train").to_numpy()
        return chosen

    def ids_among(self, ids: Collection[str]) -> set[str]:
        """Return the ids in `ids` that examples have."""
        return {id for _, shard in self for id in shard.examples(["id"])["id"] if id in ids}

    def responses(self, numbers: Iterable[int]) -> list[str]:
        """Return the responses of the examples with these numbers, in increasing order of number."""
        return [text for frame in self._rows(numbers, ["messages"]) for text in frame.select(RESPONSE).to_series()]

    def _rows(self, numbers: Iterable[int], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield columns of the examples with these numbers, and their numbers, as one frame for each shard that has some of them."""
        ordered = np.unique(np.fromiter(numbers, np.int64))
        for places, shard in self:
            chosen = ordered[np.searchsorted(ordered, places.start) : np.searchsorted(ordered, places.stop)]
            if len(chosen):
                rows = shard.examples(columns)[chosen - places.start]
                yield rows.select(pl.Series("number", chosen), *columns)


class Reader:
    """Reads parts of sources into shards. Shards of files are kept in `cache` for later runs; all others are read again in every run."""

    def __init__(
        self,
        config: IngestConfig,
        cache: Path,
        scratch: Path,
        run: Run,
        workers: Workers | None = None,
        rescued: frozenset[str] = frozenset(),
    ) -> None:
        """Let `workers` read the parts of large files, which changes no byte of the result.

        Examples whose ids are `rescued` are not refused by screening.
        """
        self._config, self._cache, self._scratch, self._run = config, cache, scratch, run
        self._workers = workers or Workers()
        self._rescued = rescued
        self._used: set[str] = set()
        self._written: dict[str, list[str]] = defaultdict(list)
        for name in sorted(path.name for path in cache.iterdir()) if cache.is_dir() else ():
            self._written[name.partition("-")[0]].append(name)
        self._num_made = 0

    def read(self, parts: Sequence[Part]) -> tuple[list[Shard], list[Summary]]:
        """Return the shards of the parts, in order, and what each part holds.

        A part of a file that was read before is read again only if it refused a record that was rescued since, or if the records excluded
        from it have changed.
        """
        folders = self._write(
            [part if isinstance(part, FilePart) else replace(part, rescued=self._rescued) for part in parts]
        )
        again = {
            number: replace(part, rescued=refused)
            for number, part in enumerate(parts)
            if isinstance(part, FilePart) and (refused := self._refused(folders[number]))
        }
        for number, folder in zip(again, self._write(list(again.values())), strict=True):
            folders[number] = folder
        summaries = [summary for folder in folders if (summary := written(folder)) is not None]
        shards = [shard for pair in zip(folders, summaries, strict=True) for shard in shards_in(*pair)]
        return shards, summaries

    def _refused(self, folder: Path) -> frozenset[str]:
        """Return the rescued ids that the part in `folder` refused."""
        summary = written(folder) if self._rescued else None
        if summary is None:
            return frozenset()
        return self._rescued.intersection(refusals(shards_in(folder, summary)).select("id").collect()["id"])

    def _write(self, parts: Sequence[Part]) -> list[Path]:
        """Return the folder of each part, after reading the parts that are not in the cache."""
        folders = [self._folder(part) for part in parts]
        pending = [(part, folder) for part, folder in zip(parts, folders, strict=True) if written(folder) is None]
        done = write_parts(pending, self._config, self._workers)
        for _ in self._run.track(done, total=len(pending), unit="part") if len(pending) > 1 else done:
            pass
        return folders

    def forget_unused(self) -> None:
        """Remove the parts that this run has not used from the cache."""
        for folder in self._cache.iterdir() if self._cache.is_dir() else ():
            if folder.name not in self._used:
                files.remove(folder)

    def _folder(self, part: Part) -> Path:
        """Return the folder of a part: that of an earlier run if it refused exactly the records that are excluded now, else a new one."""
        if (key := part.key) is None:
            self._num_made += 1
            return self._scratch / f"{MADE}{self._num_made:06d}"
        exclude = sorted(set(self._config.exclude))
        new = f"{key}-{hashlib.sha256(json.dumps(exclude).encode()).hexdigest()[:16]}" if exclude else key
        names = (name for name in self._written[key] if _excludes(self._cache / name, exclude))
        name = new if new in self._written[key] else next(names, new)
        self._used.add(name)
        return self._cache / name


def _excludes(folder: Path, exclude: Collection[str]) -> bool:
    """Return True if a part was written to `folder` and refused, as excluded, exactly the records that these entries name."""
    if (summary := written(folder)) is None:
        return False
    shards = shards_in(folder, summary)
    is_other = is_named(exclude, PLACE) != (pl.col("reason") == FORGOTTEN)
    if with_places(refusals(shards)).filter(is_other).head(1).collect().height:
        return False
    if not exclude:
        return True
    named = is_named(exclude, "source").any()
    return not any(shard.examples(["id", "source"]).select(named).item() for shard in shards if shard.rows)


def num_read(summaries: Iterable[Summary]) -> Counter[str]:
    """Return the number of records of each file, in order."""
    total: Counter[str] = Counter()
    for summary in summaries:
        total.update(summary.read)
    return total


def empty_files(parts: Sequence[Part], read: Mapping[str, int]) -> list[Refusal]:
    """Return a refusal for each file, query and data set without a record in `read`, so that empty ones are reported."""
    places = {part.table.label: ("the file", "it has no record") for part in parts if isinstance(part, FilePart)}
    for part in parts:
        if isinstance(part, RowsPart) and isinstance(part.source, Query):
            places[label(part.source)] = ("the query", "it gives no row")
        elif isinstance(part, RowsPart) and isinstance(part.source, Datasets):
            places[label(part.source)] = ("the data set", "it has no row")
    return [
        Refusal(name, where, "no records", detail, "") for name, (where, detail) in places.items() if name not in read
    ]


def refusals(shards: Sequence[Shard]) -> pl.LazyFrame:
    """Return the refusals of all shards as one table."""
    return tables.scan([shard.refusals() for shard in shards], Refusal)


def sensitive_texts(shards: Sequence[Shard]) -> pl.LazyFrame:
    """Return the secrets and personal data of all shards as one table."""
    return tables.scan([shard.sensitive() for shard in shards], SensitiveText)
