"""One shard on disk: examples and refusals as Parquet, and for each example the numbers that rules use and the hashes of its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.core.records import SensitiveText
from tasks.core.text import arrays
from tasks.core.text.shingles import Words, hash_words
from tasks.io import columns
from tasks.stages.ingest.shards.rows import Rows, Side

SIDES: tuple[Side, ...] = get_args(Side)
FACTS = np.dtype([
    ("content", np.uint64),  # a hash of everything that distinguishes an example
    ("spoken", np.uint64),  # a hash of its messages
    ("prompt", np.uint64),  # a hash of its prompt, ignoring white space and case; 0 for generated tasks
    ("family", np.uint64),  # a hash of its family of similar examples; 0 without a family
    ("prompt_chars", np.int64),
    ("response_chars", np.int64),  # the longer of response and rejected answer
    ("prompt_words", np.int64),
    ("response_words", np.int64),
])  # fmt: skip
"""The numbers of an example that rules use."""
MADE = "made-"
"""Beginning of the names of folders whose shards are recreated in every run."""
RESPONSE = pl.col("messages").list.last().struct.field("content")


@dataclass(frozen=True)
class Shard:
    """Some rows of a source: those that became examples and those that were refused."""

    folder: Path
    number: int
    rows: int
    """Number of examples."""

    @property
    def is_kept(self) -> bool:
        """Return True if the shard is cached: the name of its folder is a digest of its origin, so that later runs find it."""
        return not self.folder.name.startswith(MADE)

    def examples(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the examples, each with the label of its `file`; only `columns` if they are named."""
        return pl.read_parquet(self._path("examples.parquet"), columns=None if columns is None else list(columns))

    def refusals(self) -> Path:
        """Return the path of the table of refusals."""
        return self._path("refusals.parquet")

    def sensitive(self) -> Path:
        """Return the path of the table of secrets and personal data in the examples and refusals."""
        return self._path("sensitive.parquet")

    def facts(self) -> NDArray[Any]:
        """Return the numbers of each example that rules use."""
        return np.load(self._path("facts.npy"))

    def words(self, side: Side) -> Words:
        """Return the words of one side of each example; none for generated tasks. They stay on disk until they are used."""
        counts = self.facts()[f"{side}_words"]
        hashes = np.load(self._path(f"{side}.npy"), mmap_mode="r") if counts.any() else np.zeros(0, np.uint64)
        return Words(hashes, np.concatenate([[0], np.cumsum(counts)]))

    def write(self, rows: Rows, refusals: pl.DataFrame, sensitive: Sequence[SensitiveText]) -> None:
        """Write the shard's files into its folder."""
        self._write_frame("examples.parquet", rows.frame())
        self._write_frame("refusals.parquet", refusals)
        self._write_frame("sensitive.parquet", columns.frame(sensitive, SensitiveText))
        facts = np.zeros(len(rows), FACTS)
        for side in SIDES:
            words = hash_words(rows.compared(side))
            facts[f"{side}_words"] = words.counts
            self._save(f"{side}.npy", words.hashes)
        for name, values in rows.facts().items():
            facts[name] = values
        self._save("facts.npy", facts)

    def _write_frame(self, name: str, frame: pl.DataFrame) -> None:
        frame.write_parquet(self._path(name), compression="lz4", statistics=False)

    def _save(self, name: str, array: NDArray[Any]) -> None:
        arrays.save(self._path(name), array)

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.number:06d}-{name}"
