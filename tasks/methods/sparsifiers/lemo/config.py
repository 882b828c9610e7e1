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
    """Share of a sequence's blocks that attention reads, rounded down; at least two. With 1 it reads all."""
    first: int | None = Field(None, ge=0)
    """The first layer, counted from 0, whose attention leaves blocks out. Null: the layer below the middle, 15 of 32. The last layer never
    leaves blocks out."""
    blocks: Literal["score", "exact", "random", "recent"] = "score"
    """The blocks that stay in addition to the first and the last. `score`: the most relevant ones by a cheap score; `exact`: by a score over
    all pairs of tokens. As controls, equally many: `random` ones, or the last ones (`recent`)."""
    mlp_keep: float = Field(0.2, gt=0, le=1)
    """Share of an MLP's inner columns that are saved for the backward pass, rounded down; at least one. With 1 the gradient is exact, and the
    MLP may train."""


SPEC = SparsifierSpec(config=LemoConfig, acts_between_steps=True, of_rows=True)
