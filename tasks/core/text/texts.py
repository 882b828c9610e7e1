"""Very many texts as hashes of their words, in blocks of which one at a time is in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.text.shingles import Indices, Words, hash_words


class Texts:
    """Texts in blocks, numbered through."""

    def __init__(self, counts: Sequence[int], words: Sequence[Callable[[], Words]]) -> None:
        """`counts` are the numbers of texts in each block, `words` return their words."""
        self.starts: Indices = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        self._words = words

    @classmethod
    def of(cls, contents: Sequence[str]) -> "Texts":
        """Return texts that are in memory, as one block."""
        words = hash_words(contents)
        return cls([len(words)], [lambda: words])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __add__(self, other: "Texts") -> "Texts":
        """Return these texts and the others after them."""
        counts = np.concatenate([np.diff(self.starts), np.diff(other.starts)])
        return Texts(counts.tolist(), [*self._words, *other._words])

    def take(self, numbers: Indices) -> Words:
        """Return the words of the texts of these numbers, which are sorted."""
        hashes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for block, first, last in self.ranges(numbers):
            words = self._words[block]().take(numbers[first:last] - self.starts[block])
            hashes.append(words.hashes)
            counts.append(words.counts)
        return Words(np.concatenate(hashes), np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64))

    def ranges(self, numbers: Indices) -> Iterator[tuple[int, int, int]]:
        """Yield each block that has some of the sorted numbers, and the range of those."""
        bounds = np.searchsorted(numbers, self.starts)
        for block in np.flatnonzero(np.diff(bounds)):
            yield int(block), int(bounds[block]), int(bounds[block + 1])


@dataclass(frozen=True)
class Selection:
    """Some texts of many."""

    texts: Texts
    numbers: Indices
    """The numbers of the chosen ones, sorted."""

    @classmethod
    def all(cls, texts: Texts) -> "Selection":
        """Choose all texts."""
        return cls(texts, np.arange(len(texts)))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks that have chosen texts."""
        return sum(1 for _ in self.texts.ranges(self.numbers))

    def __iter__(self) -> Iterator[tuple[slice, Words]]:
        """Yield the places of the chosen texts of each block among all chosen ones, and their words."""
        for _, first, last in self.texts.ranges(self.numbers):
            yield slice(first, last), self.texts.take(self.numbers[first:last])

    def take(self, places: Indices) -> Words:
        """Return the words of the texts at these sorted places among the chosen ones."""
        return self.texts.take(self.numbers[places])
