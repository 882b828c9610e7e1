"""L = sum of w times the token's loss."""

import torch

from tasks.methods.objectives import Tokens
from tasks.methods.objectives.cross_entropy.config import CrossEntropyConfig
from tasks.methods.objectives.cross_entropy.method import loss


def test_it_is_the_weighted_sum():
    tokens = Tokens(
        weights=torch.tensor([1.0, 0.5, 3.0]),
        segments=torch.tensor([0, 0, 1]),
        tasks=torch.tensor([0, 0, 0]),
        task_tokens=torch.tensor([3]),
        task_examples=torch.tensor([2]),
        numbers=torch.arange(2),
    )
    assert loss(torch.tensor([4.0, 2.0, 1.0]), tokens, CrossEntropyConfig()).item() == 8.0
