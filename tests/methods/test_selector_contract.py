"""What every selector owes: it is run for each file found in the folder, over full weights and over LoRA.

A selector's test file names under `REFUSES` the adapters that leave it nothing to choose from.
"""

import pytest
import torch

from tasks import methods
from tasks.core.weights.surgery import plain
from tasks.engine.training import compose, store
from tasks.io.weights import checkpoints
from tests.methods import contract

SELECTORS = methods.names("selectors")
PAIRS = [(name, adapter) for name in SELECTORS for adapter in ("none", "lora")]
REFUSED = [(name, adapter) for name, adapter in PAIRS if adapter in contract.said(name, "REFUSES", ())]
WORKING = [pair for pair in PAIRS if pair not in REFUSED]
MERGING = [name for name in SELECTORS if methods.spec("selectors", name).merges]


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


@pytest.mark.parametrize(("name", "adapter"), WORKING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_selector_leaves_the_function_and_something_to_train(tiny, kind, name, adapter, dtype):
    expected = contract.losses(contract.model(kind, tiny, dtype))
    parts = contract.composition(selectors=name, adapters=adapter)
    attached, _ = contract.composed(contract.model(kind, tiny, dtype), parts)
    assert attached.trainable
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(contract.losses(attached.model), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "adapter"), WORKING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_only_what_a_selector_lets_move_moves(tiny, kind, name, adapter, dtype):
    parts = contract.composition(selectors=name, adapters=adapter)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    assert contract.steps(attached, optimizer, parts, count=3) <= set(attached.trainable)
    moved = contract.steps(attached, optimizer, parts, count=1)
    assert moved
    assert moved == {n for n, p in attached.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("name", "adapter"), REFUSED)
def test_an_adapter_that_leaves_nothing_to_choose_from_is_refused(tiny, kind, name, adapter):
    with pytest.raises(ValueError, match=f"selector '{name}' .*adapter: none"):
        contract.composed(contract.model(kind, tiny), contract.composition(selectors=name, adapters=adapter))


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "all"])
def test_a_selector_trains_as_many_numbers_as_its_card_says(tiny, kind, name):
    count = contract.said(name, "trainable")
    assert count, f"tests/methods/test_{name}.py says nothing of what trains"
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny), parts)
    contract.steps(attached, optimizer, parts, count=1)
    found = sum(p.numel() for p in attached.model.parameters() if p.requires_grad)
    assert found == count(contract.model(kind, tiny), parts.selector.config)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_choice_is_a_function_of_the_seed(tiny, name):
    def moved():
        parts = contract.composition(selectors=name)
        attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
        contract.steps(attached, optimizer, parts)
        return contract.losses(compose.merge(attached.model, parts))

    torch.manual_seed(1)
    first = moved()
    torch.manual_seed(2)  # a selector draws from the seed it is given, and from nothing else
    assert torch.equal(moved(), first)


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_merged_weights_compute_the_same_function(tiny, kind, name, dtype):
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    merged = compose.merge(attached.model, parts)
    assert {n for n, _ in merged.named_parameters()} == {n for n, _ in contract.model(kind, tiny).named_parameters()}
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(contract.losses(merged), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_is_saved_is_a_plain_model(tiny, kind, tmp_path, name, dtype):
    parts = contract.composition(selectors=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    _, tokenizer = checkpoints.load(tiny)
    store.save(attached, parts, tokenizer, tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", dtype=contract.named(dtype))
    for (key, found), wanted in zip(loaded.named_parameters(), plain(attached.model).parameters(), strict=True):
        assert torch.equal(found, wanted), key
