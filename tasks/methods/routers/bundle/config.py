"""Settings of the router by the nearest bundle, and the facts about it."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class BundleConfig(Config):
    """The `methods.bundle` section."""

    least: float | None = Field(None, gt=-1, lt=1)
    """The smallest cosine to the nearest bundle at which its member answers; below it the base answers. Null: a member always answers."""
    size: int = Field(10_000, ge=2)
    """Length of a hypervector, at least that of a hidden state."""


SPEC = RouterSpec(config=BundleConfig)
