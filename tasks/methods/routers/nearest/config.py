"""Settings of the router by the nearest centroid, and the facts about it."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class NearestConfig(Config):
    """The `methods.nearest` section."""

    reach: float | None = Field(None, gt=0)
    """The largest d at which the nearest member answers; beyond it the base answers. Prompts like those that a member was trained on
    have d of about 1. Null: the nearest member always answers."""


SPEC = RouterSpec(config=NearestConfig)
