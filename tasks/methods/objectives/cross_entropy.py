"""Cross-entropy: the weighted sum of the tokens' negative log-likelihoods.

L = sum_n w_n (-log p(y_n | y_<n)), in nats. Shapes: N = trained tokens of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.methods.objectives import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropyParams(Params):
    """The `methods.cross_entropy` section: nothing to set."""


def loss(nll_N: Tensor, tokens: Tokens, params: CrossEntropyParams) -> Tensor:
    """The weighted sum of the token losses, a scalar."""
    return (tokens.weights * nll_N).sum()


METHOD = Objective(params=CrossEntropyParams, loss=loss)
