"""The loss is cross entropy plus how far two looks at a token are apart, each token by its weight."""

import pytest
import torch

from tasks.methods.objectives import Tokens
from tasks.methods.objectives.consistency.config import SPEC, ConsistencyConfig
from tasks.methods.objectives.consistency.method import loss
from tasks.methods.objectives.cross_entropy.config import CrossEntropyConfig
from tasks.methods.objectives.cross_entropy.method import loss as cross_entropy

NLL, APART, WEIGHTS = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 0.25]), torch.tensor([1.0, 1.0, 4.0])


def tokens(apart):
    place = torch.zeros(3, dtype=torch.long)
    counts = torch.tensor([3]), torch.tensor([1])
    return Tokens(WEIGHTS, place, place, *counts, numbers=torch.arange(1), divergence=apart)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_divergence_is_added_times_its_weight(weight):
    expected = (1 + 2 + 4 * 3) + weight * (0.5 + 4 * 0.25)
    assert loss(NLL, tokens(APART), ConsistencyConfig(weight=weight)).item() == pytest.approx(expected)


def test_looks_that_are_the_same_leave_cross_entropy():
    same = tokens(torch.zeros(3))
    assert torch.equal(loss(NLL, same, ConsistencyConfig()), cross_entropy(NLL, same, CrossEntropyConfig()))


def test_a_row_is_read_twice():
    assert SPEC.looks == 2


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ValueError, match="weight"):
        ConsistencyConfig(weight=0)
