"""What every optimizer owes: it is run for each file found in the folder, on a LLaMA and on a Qwen2."""

import pytest
import torch

from tasks import methods
from tests.methods import contract

OPTIMIZERS = methods.names("optimizers")


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_an_optimizer_moves_what_trains_and_nothing_else(tiny, kind, name, adapter, dtype):
    parts = contract.composition(optimizers=name, adapters=adapter)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_an_optimizer_lowers_the_loss(tiny, kind, name, dtype):
    parts = contract.composition(optimizers=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts)
    before = contract.losses(attached.model).sum()
    contract.steps(attached, optimizer, parts, count=contract.said(name, "STEPS", 3))
    assert contract.losses(attached.model).sum() < before


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_with_its_saved_state_an_optimizer_takes_the_step_it_would_have_taken(tiny, kind, tmp_path, name, dtype):
    parts = contract.composition(optimizers=name)

    def composed():
        return contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)

    attached, optimizer = straight = composed()
    contract.steps(attached, optimizer, parts)
    torch.save([attached.model.state_dict(), optimizer.state_dict()], tmp_path / "saved.pt")
    weights, state = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed, forgetful = composed(), composed()
    resumed[1].load_state_dict(state)
    for attached, _ in (resumed, forgetful):
        attached.model.load_state_dict(weights)
    expected, found, other = (
        contract.steps(attached, optimizer, parts, count=1) and list(attached.model.parameters())
        for attached, optimizer in (straight, resumed, forgetful)
    )
    assert all(map(torch.equal, found, expected))
    assert not all(map(torch.equal, other, expected)), "its state does nothing"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_keeps_the_groups_it_is_given(tiny, name):
    from tasks.core.training import Group

    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3)]
    groups = [Group("a", weights[:1], rate=2.0), Group("b", weights[1:2], decay=False), Group("c", weights[2:])]
    part = contract.part("optimizers", name)
    made = part.method.make(groups, part.config, 0)
    assert [group["name"] for group in made.param_groups] == ["a", "b", "c"]
    rates = [group["lr"] for group in made.param_groups]
    assert rates == [2 * rates[1], rates[1], rates[1]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_says_truly_whether_it_needs_a_gradient(name):
    part = contract.part("optimizers", name)
    from tasks.core.training import Group

    made = part.method.make([Group("a", [torch.nn.Parameter(torch.ones(2, 2))])], part.config, 0)
    assert hasattr(made, "estimate") == part.spec.gradient_free
