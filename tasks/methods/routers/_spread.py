"""Scale states of prompts and members by the spread of one member's prompts.

Shapes: N = prompts, K = members, L = layers, H = hidden size of the base.
"""

import numpy as np
from numpy.typing import NDArray

from tasks.methods import hyperdimensional
from tasks.methods.routers import Specialists

Array = NDArray[np.floating]


def standardised(states_NLH: Array, bank: Specialists, first: int = 0) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return the states of prompts, (N, L, H), and the means of members, (K, L, H), centred by all members' mean and divided by the spread.

    The third result, (L, H), is True for numbers that vary; the others are 0 in the first two. Layers before `first` are left out. Raises
    ValueError if no number varies over a member's prompts.
    """
    means, variances = (values[:, first:].astype(np.float64) for values in (bank.means, bank.variances))
    centre_LH, spread_LH = means.mean(axis=0), np.sqrt(variances.mean(axis=0))
    varies_LH = hyperdimensional.varies(centre_LH, spread_LH)
    if not varies_LH.any():
        raise ValueError(
            f"The prompts that describe each member of the bank ({', '.join(bank.names)}) are all alike, so nothing says how far apart "
            "prompts of one member are. Train members on several prompts, or take router `none`."
        )
    states = states_NLH[:, first:].astype(np.float64)
    x_NLH, m_KLH = (hyperdimensional.standardised(values, centre_LH, spread_LH) for values in (states, means))
    return x_NLH, m_KLH, varies_LH
