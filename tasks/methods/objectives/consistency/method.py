"""Functions of consistency. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import Tensor

from tasks.methods.objectives import Objective, Tokens
from tasks.methods.objectives.consistency.config import ConsistencyConfig


def loss(nll_N: Tensor, tokens: Tokens, config: ConsistencyConfig) -> Tensor:
    """Return the weighted sum of cross entropy and divergence."""
    assert tokens.divergence is not None, "the engine reads a row as often as SPEC says"
    return (tokens.weights * (nll_N + config.weight * tokens.divergence)).sum()


METHOD = Objective(loss=loss)
