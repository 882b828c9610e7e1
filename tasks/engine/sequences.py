"""Sequences that need not be in memory: each is read when it is needed, and the facts that a plan needs of all of them are in arrays.

Shapes: N = sequences.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tasks.core.sequences import Encoded

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Names:
    """A name for each of N sequences."""

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    """The index in `names` of each sequence's name, (N,)."""

    @classmethod
    def of(cls, values: Sequence[str]) -> Names:
        """Return `Names` that hold one value for each sequence."""
        codes = {name: code for code, name in enumerate(dict.fromkeys(values))}
        return cls(tuple(codes), np.fromiter((codes[name] for name in values), np.int32, len(values)))

    def take(self, places: Places) -> Names:
        """Return the names of some sequences."""
        return Names(self.names, self.codes[places])

    def within(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Return the index in `names` of each sequence's name, (N,); -1 for a name that is not among them."""
        places = {name: place for place, name in enumerate(names)}
        return np.array([places.get(name, -1) for name in self.names], np.int32)[self.codes]

    def places_of(self, name: str) -> Places:
        """Return the places of the sequences with this name."""
        return np.flatnonzero(self.codes == self.names.index(name)) if name in self.names else np.zeros(0, np.int64)

    @property
    def present(self) -> list[str]:
        """Return the names that some sequence has, sorted."""
        return sorted(self.names[code] for code in np.unique(self.codes))


@dataclass(frozen=True)
class Facts:
    """The properties of N sequences from which a training is planned, (N,) each."""

    tokens: NDArray[Any]
    longest: NDArray[Any]
    """Tokens of the longest among the sequence and its auxiliary sequences, before an objective links it."""
    trained: NDArray[Any]
    """Trained tokens, as `Encoded.num_trained` counts them."""
    auxiliary: NDArray[Any]
    """True where the sequence has auxiliary sequences."""
    tasks: Names
    domains: Names

    def take(self, places: Places) -> Facts:
        """Return the facts of some sequences."""
        return Facts(
            self.tokens[places],
            self.longest[places],
            self.trained[places],
            self.auxiliary[places],
            self.tasks.take(places),
            self.domains.take(places),
        )


class Sequences(Sequence[Encoded]):
    """Sequences that are read one at a time."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Return the facts about all sequences."""

    @abstractmethod
    def read(self, place: int) -> Encoded:
        """Return the sequence at a place, counted from 0."""

    @property
    def tokens(self) -> NDArray[Any]:
        """Return the number of tokens of each sequence, (N,)."""
        return self.facts.tokens

    @property
    def longest(self) -> NDArray[Any]:
        """Return the number of tokens of the longest among each sequence and its auxiliary sequences, (N,)."""
        return self.facts.longest

    @property
    def passes(self) -> NDArray[np.float64] | None:
        """Return how often an epoch sees each sequence, (N,); None if it sees each once."""
        return None

    @property
    def per_epoch(self) -> float:
        """The number of sequences that an epoch sees, on average."""
        return float(len(self)) if self.passes is None else float(self.passes.sum())

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...
    @overload
    def __getitem__(self, place: slice) -> Sequences: ...
    def __getitem__(self, place: int | slice) -> Encoded | Sequences:
        if isinstance(place, slice):
            return self.choose(np.arange(len(self))[place])
        return self.read(range(len(self))[place])

    def choose(self, places: Places) -> Sequences:
        """Return the sequences at some places, in this order."""
        passes = None if self.passes is None else self.passes[places]
        return Chosen(self, np.asarray(places, np.int64), passes)

    def seen(self, passes: NDArray[np.float64]) -> Sequences:
        """Return the sequences that an epoch sees, without those of 0 `passes`; `passes`, (N,), is how often it sees each."""
        places = np.flatnonzero(passes)
        return Chosen(self, places, passes[places])


def listed(sequences: Iterable[Encoded]) -> Sequences:
    """Return sequences, which may be a list in memory, as `Sequences`."""
    return sequences if isinstance(sequences, Sequences) else Listed(list(sequences))


class Listed(Sequences):
    """Sequences in memory."""

    def __init__(self, rows: Sequence[Encoded]) -> None:
        self._rows = rows

    def read(self, place: int) -> Encoded:
        return self._rows[place]

    @cached_property
    def tokens(self) -> NDArray[Any]:
        return np.fromiter(map(len, self._rows), np.int64, len(self._rows))

    @cached_property
    def facts(self) -> Facts:
        return Facts(
            self.tokens,
            np.fromiter((max(map(len, (row, *row.auxiliary))) for row in self._rows), np.int64, len(self._rows)),
            np.fromiter((row.num_trained for row in self._rows), np.int64, len(self._rows)),
            np.fromiter((bool(row.auxiliary) for row in self._rows), np.bool_, len(self._rows)),
            Names.of([row.task for row in self._rows]),
            Names.of([row.domain for row in self._rows]),
        )

    @cached_property
    def passes(self) -> NDArray[np.float64] | None:
        passes = np.fromiter((row.passes for row in self._rows), np.float64, len(self._rows))
        return passes if (passes != 1).any() else None


class Chosen(Sequences):
    """Some sequences of a base, in a given order, each with the number of times that an epoch sees it."""

    def __init__(self, base: Sequences, places: Places, passes: NDArray[np.float64] | None) -> None:
        self._base, self._places, self._passes = base, places, passes

    @cached_property
    def facts(self) -> Facts:
        return self._base.facts.take(self._places)

    @cached_property
    def tokens(self) -> NDArray[Any]:
        return self._base.tokens[self._places]

    @property
    def passes(self) -> NDArray[np.float64] | None:
        return self._passes

    def read(self, place: int) -> Encoded:
        sequence = self._base.read(int(self._places[place]))
        return sequence if self._passes is None else replace(sequence, passes=float(self._passes[place]))


class Changed(Sequences):
    """The sequences of a base, each changed when it is read. The change keeps their tokens."""

    def __init__(
        self, base: Sequences, change: Callable[[int, Encoded], Encoded], *, adds_auxiliary: bool = False
    ) -> None:
        """Take the base and `change`, a function of a sequence's place and the sequence. `adds_auxiliary`: it adds auxiliary sequences."""
        self._base, self._change, self._adds_auxiliary = base, change, adds_auxiliary

    @cached_property
    def facts(self) -> Facts:
        facts = self._base.facts
        return replace(facts, auxiliary=np.ones(len(facts.tokens), np.bool_)) if self._adds_auxiliary else facts

    @property
    def tokens(self) -> NDArray[Any]:
        return self._base.tokens

    @property
    def passes(self) -> NDArray[np.float64] | None:
        return self._base.passes

    def read(self, place: int) -> Encoded:
        return self._change(place, self._base.read(place))


class Joined(Sequences):
    """Two lists of sequences, one after the other."""

    def __init__(self, first: Sequences, second: Sequences) -> None:
        self._first, self._second = first, second

    @cached_property
    def facts(self) -> Facts:
        one, other = self._first.facts, self._second.facts
        return Facts(
            np.concatenate([one.tokens, other.tokens]),
            np.concatenate([one.longest, other.longest]),
            np.concatenate([one.trained, other.trained]),
            np.concatenate([one.auxiliary, other.auxiliary]),
            _joined(one.tasks, other.tasks),
            _joined(one.domains, other.domains),
        )

    @cached_property
    def passes(self) -> NDArray[np.float64] | None:
        both = (self._first, self._second)
        if all(part.passes is None for part in both):
            return None
        return np.concatenate([np.ones(len(part)) if part.passes is None else part.passes for part in both])

    def read(self, place: int) -> Encoded:
        first = len(self._first)
        return self._first.read(place) if place < first else self._second.read(place - first)


def numbered(sequences: Sequences) -> Sequences:
    """Return the sequences, each with its place as its number."""
    return Changed(sequences, _with_number)


def _with_number(place: int, sequence: Encoded) -> Encoded:
    return replace(sequence, number=place)


def _joined(one: Names, other: Names) -> Names:
    names = tuple(dict.fromkeys([*one.names, *other.names]))
    return Names(names, np.concatenate([one.within(names), other.within(names)]))
