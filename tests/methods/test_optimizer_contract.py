"""What every optimizer owes: it is run for each file found in the folder."""

import pytest
import torch

from tasks import methods
from tests.methods import contract

OPTIMIZERS = methods.names("optimizers")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_an_optimizer_moves_what_trains_and_nothing_else(tiny, name, adapter):
    parts = contract.composition(optimizers=name, adapters=adapter)
    attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_lowers_the_loss(tiny, name):
    parts = contract.composition(optimizers=name)
    attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
    before = contract.losses(attached.model).sum()
    contract.steps(attached, optimizer, parts, count=contract.said(name, "STEPS", 3))
    assert contract.losses(attached.model).sum() < before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_the_groups_it_is_given(tiny, name):
    from tasks.core.training import Group

    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3)]
    groups = [Group("a", weights[:1], rate=2.0), Group("b", weights[1:2], decay=False), Group("c", weights[2:])]
    part = contract.part("optimizers", name)
    made = part.method.make(groups, part.params, 0)
    assert [group["name"] for group in made.param_groups] == ["a", "b", "c"]
    rates = [group["lr"] for group in made.param_groups]
    assert rates == [2 * rates[1], rates[1], rates[1]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_says_truly_whether_it_needs_a_gradient(name):
    part = contract.part("optimizers", name)
    from tasks.core.training import Group

    made = part.method.make([Group("a", [torch.nn.Parameter(torch.ones(2, 2))])], part.params, 0)
    assert hasattr(made, "estimate") == part.method.gradient_free
