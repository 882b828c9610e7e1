"""Very many texts as hashes of their words, in blocks of which only one is in memory at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from tasks.core.text.shingles import Indices, Words, hash_words

T = TypeVar("T")
R = TypeVar("R")
Track = Callable[[Iterable[Any], int], Iterable[Any]]
"""Yields its items, and shows how many of the total have passed."""


def untracked(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Yield the items without showing progress."""
    del total
    return items


class Apply(Protocol):
    """Applies a function to about `number` items, in this process or in others.

    Function and items must be picklable. Results come in the order of the items, so they do not depend on where they were computed.
    """

    def __call__(self, function: Callable[[T], R], items: Iterable[T], number: int) -> Iterator[R]: ...


def apply_here(function: Callable[[T], R], items: Iterable[T], number: int) -> Iterator[R]:
    """Apply a function in this process."""
    del number
    return map(function, items)


@dataclass(frozen=True)
class Chosen:
    """Some texts of one block. It is picklable if `words_of_block` is."""

    places: slice
    """Their indices among all chosen texts."""
    words_of_block: Callable[[], Words]
    numbers: Indices
    """Their numbers, sorted."""
    start: int
    """The number of the first text of the block."""

    def lengths(self) -> Indices:
        """Return the number of words of each text."""
        return self.words_of_block().counts[self.numbers - self.start]

    def words(self) -> Words:
        """Return the words of the texts."""
        return self.words_of_block().take(self.numbers - self.start)


@dataclass(frozen=True)
class InMemory:
    """A function that returns words from memory."""

    words: Words

    def __call__(self) -> Words:
        return self.words


def joined(blocks: Sequence[Chosen]) -> Words:
    """Return the words of chosen texts, one block after the other."""
    parts = [block.words() for block in blocks]
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.zeros(1, np.int64), *(part.counts for part in parts)])
    return Words(np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)]), np.cumsum(counts))


class Texts:
    """Texts in blocks, numbered through."""

    def __init__(self, counts: Sequence[int], words: Sequence[Callable[[], Words]]) -> None:
        """`counts` are the numbers of texts in each block, `words` return their words."""
        self.starts: Indices = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        self._words = words

    @classmethod
    def of(cls, contents: Sequence[str]) -> "Texts":
        """Return texts in memory, as one block."""
        words = hash_words(contents)
        return cls([len(words)], [InMemory(words)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __add__(self, other: "Texts") -> "Texts":
        """Return these texts and the others after them."""
        counts = np.concatenate([np.diff(self.starts), np.diff(other.starts)])
        return Texts(counts.tolist(), [*self._words, *other._words])

    def choose(self, numbers: Indices) -> list[Chosen]:
        """Return the texts with these sorted numbers, by block."""
        bounds = np.searchsorted(numbers, self.starts)
        blocks = np.flatnonzero(np.diff(bounds)).tolist()
        ranges = [(block, slice(int(bounds[block]), int(bounds[block + 1]))) for block in blocks]
        return [
            Chosen(places, self._words[block], numbers[places], int(self.starts[block])) for block, places in ranges
        ]


@dataclass(frozen=True)
class Selection:
    """A selection of texts."""

    texts: Texts
    numbers: Indices
    """The numbers of the chosen texts, sorted."""

    @classmethod
    def all(cls, texts: Texts) -> "Selection":
        """Choose all texts."""
        return cls(texts, np.arange(len(texts)))

    def __len__(self) -> int:
        return len(self.numbers)

    def blocks(self) -> list[Chosen]:
        """Return the chosen texts, by block."""
        return self.texts.choose(self.numbers)

    def __iter__(self) -> Iterator[tuple[slice, Words]]:
        """Yield for each block the indices of its chosen texts among all chosen ones, and their words."""
        for block in self.blocks():
            yield block.places, block.words()

    def choose(self, places: Indices) -> list[Chosen]:
        """Return the texts at these sorted indices among the chosen ones, by block."""
        return self.texts.choose(self.numbers[places])
