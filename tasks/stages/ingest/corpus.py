"""Store documents on disk. Memory holds their names, the numbers by which rules decide, and the texts of one block."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from tasks.core.records import Document, Split, content_id
from tasks.core.text import arrays
from tasks.core.text.shingles import Indices, Words, hash_words
from tasks.core.text.texts import Texts
from tasks.io import columns
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading import cleaning
from tasks.stages.ingest.splits import TextFacts

DOCUMENTS, CHARS = 1_000, 1 << 23
"""Most documents and characters of a block."""


class Corpus:
    """Documents with consecutive numbers. Texts are compared by their words, without comment lines."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.items: list[Sourced[Document]] = []
        """The documents without their texts."""
        self.facts: list[TextFacts] = []
        self.keys: list[int] = []
        """The `text_key` of each text."""
        self._folder = folder
        self._sizes: list[int] = []
        self._held: list[str] = []
        self._held_chars = 0

    def __len__(self) -> int:
        return len(self.items)

    @property
    def documents(self) -> list[Document]:
        """Return the documents without their texts."""
        return [item.record for item in self.items]

    def add(self, items: Iterable[Sourced[Document]]) -> None:
        """Append documents."""
        for source, document in items:
            text = document.text
            self.items.append(Sourced(source, replace(document, text="")))
            self.facts.append(TextFacts(len(text), content_id(text)))
            self.keys.append(text_key(text))
            self._held.append(text)
            self._held_chars += len(text)
            if len(self._held) >= DOCUMENTS or self._held_chars >= CHARS:
                self._write_block()

    def assign(self, splits: Sequence[Split]) -> None:
        """Give each document its split."""
        pairs = zip(self.items, splits, strict=True)
        self.items = [Sourced(source, replace(document, split=split)) for (source, document), split in pairs]

    def in_split(self, numbers: Indices, split: Split) -> Indices:
        """Return the numbers of the documents that are in a split."""
        return np.array([number for number in numbers.tolist() if self.items[number].record.split == split], np.int64)

    def texts(self) -> Texts:
        """Return the words of all documents, for comparison."""
        self._write_block()
        return Texts(self._sizes, [self._words(block) for block in range(len(self._sizes))])

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, Sourced[Document]]]:
        """Yield the documents of these numbers with their texts, in increasing order of number."""
        self._write_block()
        chosen, starts = np.unique(np.fromiter(numbers, np.int64)), np.cumsum([0, *self._sizes])
        for block, start in enumerate(starts[:-1].tolist()):
            rows = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, starts[block + 1])]
            if len(rows):
                texts = pl.read_parquet(self._path(block, "parquet"))["text"][rows - start]
                for number, text in zip(rows.tolist(), texts, strict=True):
                    source, document = self.items[number]
                    yield number, Sourced(source, replace(document, text=text))

    def frames(self, numbers: Indices) -> Iterator[pl.DataFrame]:
        """Yield the documents of these numbers as frames, in increasing order of number."""
        held: list[Document] = []
        for _, item in self.read(numbers):
            held.append(item.record)
            if len(held) == DOCUMENTS:
                yield columns.frame(held, Document)
                held = []
        if held:
            yield columns.frame(held, Document)

    def _write_block(self) -> None:
        if not self._held:
            return
        block, words = len(self._sizes), hash_words([cleaning.without_comments(text) for text in self._held])
        pl.DataFrame({"text": self._held}).write_parquet(self._path(block, "parquet"), compression="lz4")
        arrays.save(self._path(block, "words.npy"), words.hashes)
        arrays.save(self._path(block, "offsets.npy"), words.offsets)
        self._sizes.append(len(self._held))
        self._held, self._held_chars = [], 0

    def _words(self, block: int) -> Callable[[], Words]:
        return partial(_load_words, self._path(block, "words.npy"), self._path(block, "offsets.npy"))

    def _path(self, block: int, ending: str) -> Path:
        return self._folder / f"{block:06d}.{ending}"


def _load_words(hashes: Path, offsets: Path) -> Words:
    return Words(np.load(hashes), np.load(offsets))


def text_key(text: str) -> int:
    """Return 64 bits of a hash of a text without comment lines and differences in white space."""
    compared = cleaning.collapse_whitespace(cleaning.without_comments(text))
    digest = hashlib.blake2b(compared.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
