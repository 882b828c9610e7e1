"""Settings of the router by the choice of a tool, and the facts about it."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class DualtuneConfig(Config):
    """The `methods.dualtune` section."""

    votes: int = Field(10, ge=1)
    """Choices drawn for each prompt; the most frequent name wins. With 1 the choice is decoded greedily."""
    temperature: float = Field(1.0, gt=0)
    """Temperature at which choices are drawn."""
    max_new_tokens: int = Field(64, ge=1)
    """Maximum tokens of a choice."""


SPEC = RouterSpec(config=DualtuneConfig)
