"""Work of a model on batches. The caller decides whether this process does it or the nodes of a cluster (`local_model`)."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Track = Callable[[Iterable[Any]], Iterable[Any]]
"""Shows the progress of work on some items, and passes the items on."""
ROWS = 4
"""The number of rows of about 2,000 tokens whose reading costs as much as writing one batch of answers. Nodes are given work by batches."""


class Loaded(NamedTuple):
    """A model in memory, and its tokenizer where the work needs one."""

    model: Any
    tokenizer: Any = None


class Apply(Protocol):
    """Applies work with one model to batches, and yields results in order. `number` estimates their size in batches of answers.

    The work is a function of a module, or a `partial` of one. It and the batches can be pickled.
    """

    def __call__(self, work: Callable[[Loaded, T], R], batches: Iterable[T], number: int) -> Iterator[R]: ...


def here(model: Any, tokenizer: Any = None) -> Apply:
    """Return a function that applies work with this model in this process."""
    loaded = Loaded(model, tokenizer)

    def apply(work: Callable[[Loaded, T], R], batches: Iterable[T], number: int) -> Iterator[R]:
        del number
        return map(partial(work, loaded), batches)

    return apply
