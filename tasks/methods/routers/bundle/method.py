"""Functions of the router by the nearest bundle. Its equation and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.methods import hyperdimensional
from tasks.methods.routers import Asked, Router, Specialists
from tasks.methods.routers._spread import standardised
from tasks.methods.routers.bundle.config import BundleConfig


def similarities(states_NLH: NDArray[np.float32], bank: Specialists, size: int) -> NDArray[np.float64]:
    """Return the cosine of each prompt to the bundle of each member, (N, K)."""
    space = hyperdimensional.space(*states_NLH.shape[1:], size)
    x_NLH, m_KLH, _ = standardised(states_NLH, bank)
    return hyperdimensional.cosines(space.describe(x_NLH), space.describe(m_KLH))


def route(asked: Asked, bank: Specialists, config: BundleConfig) -> Sequence[str | None]:
    """Return the member whose bundle is nearest to each prompt, or None if none is near enough."""
    if config.least is not None and len(bank.names) == 1:
        raise ValueError(
            f"methods.bundle.least: the bank has one member, {bank.names[0]!r}, and bundles are compared after centring over several. "
            "Leave that setting out, or take router `nearest` with a `reach`."
        )
    cosines_NK = similarities(asked.states(), bank, config.size)
    least = -np.inf if config.least is None else config.least
    return [bank.names[row.argmax()] if row.max() >= least else None for row in cosines_NK]


METHOD = Router(route=route)
