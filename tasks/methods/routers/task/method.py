"""Functions of the router by task."""

from collections.abc import Sequence

from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers.task.config import TaskConfig


def route(asked: Asked, bank: Specialists, config: TaskConfig) -> Sequence[str | None]:
    """Return each item's own task, or None if the bank does not have it."""
    return [task if task in bank.names else None for task in asked.tasks]


METHOD = Router(route=route)
