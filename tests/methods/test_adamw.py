"""AdamW decays matrices apart from the gradient, and vectors not at all."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tasks.core.training import Group
from tasks.methods.optimizers.adamw import method as adamw
from tasks.methods.optimizers.adamw.config import AdamwConfig


def make(model, params):
    """AdamW over a layer's matrix and its bias, as the engine groups them."""
    groups = [Group("matrices", [model.weight]), Group("vectors", [model.bias], decay=False)]
    return adamw.make(groups, params, seed=0)


@pytest.mark.parametrize("betas", [(0.9, 1.5), (1.0, 0.999), (-0.1, 0.999)])
def test_decays_of_running_means_are_below_1(betas):
    with pytest.raises(ValidationError, match="betas"):
        AdamwConfig(betas=betas)


def test_only_matrices_decay():
    model = nn.Linear(3, 2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make(model, AdamwConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight, before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(model.bias, before["bias"])


def test_the_first_step_has_the_size_of_the_learning_rate():
    # Algorithm 2 with both running means corrected: the first update is lr * g / (|g| + eps).
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = make(model, AdamwConfig(learning_rate=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -4.0)
    optimizer.step()
    torch.testing.assert_close(model.weight, before + 0.1)


def test_a_group_learns_at_its_own_rate():
    model = nn.Linear(3, 2)
    groups = [Group("fast", [model.weight], rate=3.0), Group("slow", [model.bias])]
    made = adamw.make(groups, AdamwConfig(learning_rate=0.1), seed=0)
    assert [group["lr"] for group in made.param_groups] == [0.1 * 3.0, 0.1]
