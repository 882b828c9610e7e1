"""Settings of LeMo, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.sparsifiers import SparsifierSpec


class LemoConfig(Config):
    """The `methods.lemo` section."""

    block: int = Field(64, ge=1)
    """Tokens of a block."""
    keep: float = Field(0.4, gt=0, le=1)
    """Share of a sequence's blocks that attention reads, rounded down; two at least. With 1 it reads all."""
    first: int | None = Field(None, ge=0)
    """The first layer, from 0 on, whose attention leaves blocks out; without a number the one below the middle, 15 of 32. The last layer never
    does."""
    blocks: Literal["score", "exact", "random", "recent"] = "score"
    """The blocks that stay beside the first and the last: those that a cheap score says are wanted most, those that a score over all pairs of tokens
    says; and as controls as many at random, or the last ones."""
    mlp_keep: float = Field(0.2, gt=0, le=1)
    """Share of an MLP's inner columns that are kept for going backward, rounded down; one at least. With 1 the gradient is exact, and the MLP may
    train."""


SPEC = SparsifierSpec(config=LemoConfig, acts_between_steps=True, of_rows=True)
