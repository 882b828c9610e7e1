"""What every objective owes: it is run for each file found in the folder."""

import pytest
import torch

from tasks import methods
from tasks.methods.objectives import Tokens
from tests.methods import contract

OBJECTIVES = methods.names("objectives")
NLL = torch.rand(6, generator=torch.Generator().manual_seed(0))
SEGMENTS = torch.tensor([0, 0, 0, 1, 1, 2])
TASKS = torch.tensor([0, 0, 0, 1, 1, 0])


def tokens(at=slice(None)):
    """The six tokens of a step, or some of them: a pack of it."""
    return Tokens(
        weights=torch.ones(6)[at],
        segments=SEGMENTS[at],
        tasks=TASKS[at],
        task_tokens=torch.tensor([4, 2]),
        task_examples=torch.tensor([2, 1]),
        marks=torch.zeros(6, dtype=torch.long)[at],
        numbers=torch.arange(3),
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_packs_of_a_step_add_up_whatever_their_cut(name):
    part = contract.part("objectives", name)
    whole = part.method.loss(NLL, tokens(), part.params)
    assert whole.shape == ()
    first, second = slice(0, 3), slice(3, 6)
    apart = part.method.loss(NLL[first], tokens(first), part.params) + part.method.loss(
        NLL[second], tokens(second), part.params
    )
    torch.testing.assert_close(whole, apart)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if not methods.load("objectives", n).METHOD.hits])
def test_with_one_task_and_equal_losses_the_loss_is_their_mean(name):
    part = contract.part("objectives", name)
    one = Tokens(
        weights=torch.ones(4),
        segments=torch.tensor([0, 0, 1, 1]),
        tasks=torch.zeros(4, dtype=torch.long),
        task_tokens=torch.tensor([4]),
        task_examples=torch.tensor([2]),
        marks=torch.zeros(4, dtype=torch.long),
        numbers=torch.arange(2),
    )
    nll = torch.full((4,), 1.5, requires_grad=True)
    loss = part.method.loss(nll, one, part.params)
    assert loss.requires_grad
    torch.testing.assert_close(loss / 4, torch.tensor(1.5))
