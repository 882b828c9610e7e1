"""Settings of `failures`, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.curators import CuratorSpec


class FailuresConfig(Config):
    """The `methods.failures` section."""

    add: int = Field(240, ge=1)
    """Number of new tasks of a turn."""
    growth: float | None = Field(None, gt=0, exclude_if=lambda value: value is None)
    """New tasks of a turn for each example of its round, in place of `add`: with 1.5 the next round has 2.5 times as many examples."""
    where: Literal["failures", "learnable", "uniform"] = "learnable"
    """The spread over kinds. `failures`: in proportion to measured failures. `learnable`: in proportion to failures times successes, so that
    kinds which the model hardly ever solves get few tasks. `uniform`, the control: evenly."""


SPEC = CuratorSpec(config=FailuresConfig, looks_at="tasks")
