"""Functions of exact match. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import Tensor

from tasks.methods.objectives import Objective, Tokens
from tasks.methods.objectives.exact_match.config import ExactMatchConfig


def loss(hits_N: Tensor, tokens: Tokens, config: ExactMatchConfig) -> Tensor:
    """Return the pack's share of the failed examples, times the step's trained tokens, by which the engine divides."""
    failed = set(tokens.segments[hits_N < 1].tolist())
    return hits_N.new_tensor(len(failed)) * tokens.task_tokens.sum() / tokens.task_examples.sum()


METHOD = Objective(loss=loss)
