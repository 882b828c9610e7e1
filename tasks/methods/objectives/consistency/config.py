"""Settings of consistency, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.objectives import ObjectiveSpec


class ConsistencyConfig(Config):
    """The `methods.consistency` section."""

    weight: float = Field(1.0, gt=0)
    """Weight w of the divergence of the two looks, in nats per token."""


SPEC = ObjectiveSpec(config=ConsistencyConfig, looks=2)
