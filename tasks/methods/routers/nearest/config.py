"""Settings of the router by the nearest centroid, and the facts about it."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class NearestConfig(Config):
    """The `methods.nearest` section."""

    reach: float | None = Field(None, gt=0)
    """The largest d to the nearest member at which it answers; beyond it the base does. Prompts like those that a member was trained on
    have about 1. Without a number the nearest member always answers."""


SPEC = RouterSpec(config=NearestConfig)
