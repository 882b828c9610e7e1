"""Settings of the router by task, and the facts about it."""

from tasks.core.config import Config
from tasks.methods.routers import RouterSpec


class TaskConfig(Config):
    """The `methods.task` section: nothing to set."""


SPEC = RouterSpec(config=TaskConfig, knows_task=True)
