"""Functions of the router by the nearest centroid. Its equation and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers._spread import standardised
from tasks.methods.routers.nearest.config import NearestConfig


def distances(states_NLH: NDArray[np.float32], bank: Specialists) -> NDArray[np.float64]:
    """Return d of each prompt to each member, (N, K)."""
    x_N1H, m_K1H, varies_1H = standardised(states_NLH, bank, first=states_NLH.shape[1] - 1)
    squares = [((x_N1H - m_1H) ** 2).mean(axis=(1, 2), where=varies_1H) for m_1H in m_K1H]
    return np.stack(squares, axis=1)


def route(asked: Asked, bank: Specialists, config: NearestConfig) -> Sequence[str | None]:
    """Return the nearest member for each prompt, or None if it is not within reach."""
    d_NK = distances(asked.states(), bank)
    nearest, reach = d_NK.argmin(axis=1), np.inf if config.reach is None else config.reach
    return [bank.names[k] if d_K[k] <= reach else None for k, d_K in zip(nearest, d_NK, strict=True)]


METHOD = Router(route=route)
