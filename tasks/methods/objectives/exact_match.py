"""Exact match: the share of examples that the model would not write as they stand, a loss without gradient.

L = (examples with a trained token that is not the model's first choice, given the true tokens before it) / (examples)
It is 1 - accuracy for greedy answers of teacher-forced text: the first token that is wrong there is wrong in generation too.
The non-differentiable objectives of MeZO (Malladi et al. 2023, https://arxiv.org/abs/2305.17333, section 3.3) are of this kind;
it takes an optimizer that needs no gradient. Weights of tokens do not count. Shapes: N = trained tokens of the pack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.core.params import Params
from tasks.methods.objectives import Objective, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class ExactMatchParams(Params):
    """The `methods.exact_match` section: nothing to set."""


def loss(hits_N: Tensor, tokens: Tokens, params: ExactMatchParams) -> Tensor:
    """The pack's share of the failed examples, times the step's trained tokens, by which the engine divides."""
    failed = set(tokens.segments[hits_N < 1].tolist())
    return hits_N.new_tensor(len(failed)) * tokens.task_tokens.sum() / tokens.task_examples.sum()


METHOD = Objective(params=ExactMatchParams, loss=loss, hits=True)
