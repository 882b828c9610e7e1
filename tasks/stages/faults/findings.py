"""Store pairs and refusals on disk, by the chunk of examples to which they belong."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from tasks.core.records import Example, FaultPair, Refusal
from tasks.io import columns, tables

CHUNK = 1_000
"""Number of examples whose texts, pairs and refusals are in memory at the same time."""


class Findings:
    """The pairs and refusals of a search, in files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.refused: list[Refusal] = []
        """Refusals that are not on disk yet."""
        self._folder = folder
        self._places: dict[str, int] = {}
        self._kept: list[FaultPair] = []
        self._pairs: defaultdict[int, list[Path]] = defaultdict(list)
        self._refusals: list[Path] = []

    def chunks(self, examples: Iterable[Example]) -> Iterator[list[Example]]:
        """Yield all examples in chunks, and after each chunk write what was found to disk."""
        rows = iter(examples)
        while chunk := list(islice(rows, CHUNK)):
            for example in chunk:
                self._places.setdefault(example.id, len(self._places))
            yield chunk
            self._file()

    def keep(self, pair: FaultPair) -> None:
        """Keep a pair, whose example was in a chunk."""
        self._kept.append(pair)

    def pairs(self) -> Iterator[pl.DataFrame]:
        """Yield all pairs in the order of their examples; the pairs of one example in the order in which they were found."""
        self._file()
        for chunk in sorted(self._pairs):
            pairs = [pair for path in self._pairs[chunk] for pair in tables.read(path, FaultPair)]
            yield columns.frame(sorted(pairs, key=lambda pair: self._places[pair.example]), FaultPair)

    def refusals(self) -> pl.LazyFrame:
        """Return all refusals, in the order in which they were recorded."""
        self._file()
        return tables.scan(self._refusals, Refusal)

    def _file(self) -> None:
        by_chunk: defaultdict[int, list[FaultPair]] = defaultdict(list)
        for pair in self._kept:
            by_chunk[self._places[pair.example] // CHUNK].append(pair)
        for chunk, pairs in by_chunk.items():
            path = self._folder / f"pairs-{chunk:06d}-{len(self._pairs[chunk]):04d}.parquet"
            tables.write(path, pairs, FaultPair)
            self._pairs[chunk].append(path)
        if self.refused:
            path = self._folder / f"refused-{len(self._refusals):06d}.parquet"
            tables.write(path, self.refused, Refusal)
            self._refusals.append(path)
        self._kept, self.refused = [], []
