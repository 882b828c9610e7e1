"""Functions of the router by the nearest centroid. Its equation and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers.nearest.config import NearestConfig

LEAST = 1e-12
"""Added to variances: a number that is the same in all prompts tells nothing, and divides nothing by zero."""


def distances(states_NLH: NDArray[np.float32], bank: Specialists) -> NDArray[np.float64]:
    """Return d of each prompt to each member, (N, K)."""
    spread_H = bank.variances[:, -1].astype(np.float64).mean(axis=0) + LEAST
    x_NH, m_KH = (values[:, -1].astype(np.float64) / np.sqrt(spread_H) for values in (states_NLH, bank.means))
    squares = [((x_NH - m_H) ** 2).mean(axis=1) for m_H in m_KH]
    return np.stack(squares, axis=1)


def route(asked: Asked, bank: Specialists, config: NearestConfig) -> Sequence[str | None]:
    """The nearest member of each prompt that is within reach."""
    d_NK = distances(asked.states(), bank)
    nearest, reach = d_NK.argmin(axis=1), np.inf if config.reach is None else config.reach
    return [bank.names[k] if d_K[k] <= reach else None for k, d_K in zip(nearest, d_NK, strict=True)]


METHOD = Router(route=route)
