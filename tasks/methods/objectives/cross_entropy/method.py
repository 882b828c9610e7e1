"""Functions of cross-entropy. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import Tensor

from tasks.methods.objectives import Objective, Tokens
from tasks.methods.objectives.cross_entropy.config import CrossEntropyConfig


def loss(nll_N: Tensor, tokens: Tokens, config: CrossEntropyConfig) -> Tensor:
    """Return the weighted sum of the token losses, a scalar."""
    return (tokens.weights * nll_N).sum()


METHOD = Objective(loss=loss)
