"""Functions of no router."""

from collections.abc import Sequence

from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers.none.config import NoneConfig


def route(asked: Asked, bank: Specialists, config: NoneConfig) -> Sequence[str | None]:
    """Return None for every prompt."""
    return [None] * len(asked.tasks)


METHOD = Router(route=route)
