"""What every expander owes: it is run for each file found in the folder, on a LLaMA, a Qwen2 and a GPT-2."""

import pytest
import torch

from tasks import methods
from tasks.core.weights.surgery import decoder_layers, layer_number
from tasks.engine.training import store
from tasks.io.weights import checkpoints
from tests.methods import contract

EXPANDERS = methods.names("expanders")
GROWING = [name for name in EXPANDERS if name != "none"]


@pytest.fixture(params=[*contract.MODELS, "gpt2"])
def kind(request):
    return request.param


@pytest.mark.parametrize("name", EXPANDERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_grown_model_computes_what_the_base_computes(tiny, kind, name, dtype):
    base = contract.model(kind, tiny, dtype)
    expected, depth = contract.losses(base), len(decoder_layers(base))
    attached, _ = contract.composed(contract.model(kind, tiny, dtype), contract.composition(expanders=name))
    assert torch.equal(contract.losses(attached.model), expected)
    grown = len(decoder_layers(attached.model))
    assert (grown > depth) == (name in GROWING)
    assert attached.model.config.num_hidden_layers == grown


@pytest.mark.parametrize("name", GROWING)
def test_a_grown_model_writes_what_the_base_writes(tiny, kind, name):
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    base = contract.model(kind, tiny).eval()
    expected = base.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    grown = contract.model(kind, tiny).eval()
    part = contract.part("expanders", name)
    part.method.expand(grown, part.config, contract.probe(), 0)
    assert torch.equal(grown.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0), expected)


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_only_the_new_layers_train(tiny, kind, name, dtype):
    parts = contract.composition(expanders=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    copies = attached.expansion["copies"]
    moved = contract.steps(attached, optimizer, parts, count=3)
    assert moved
    assert {layer_number(name) for name in moved} == set(copies)


@pytest.mark.parametrize("name", GROWING)
def test_an_expander_trains_as_many_numbers_as_its_card_says(tiny, kind, name):
    count = contract.said(name, "trainable")
    assert count, f"tests/methods/test_{name}.py says nothing of what trains"
    parts = contract.composition(expanders=name)
    attached, _ = contract.composed(contract.model(kind, tiny), parts)
    expected = count(contract.model(kind, tiny), parts.expander.config)
    assert sum(p.numel() for p in attached.trainable.values()) == expected


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_grown_model_is_an_ordinary_one_on_disk(tiny, kind, tmp_path, name, dtype):
    parts = contract.composition(expanders=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    _, tokenizer = checkpoints.load(tiny)
    expected = contract.losses(attached.model)
    store.save(attached, parts, tokenizer, tmp_path / "saved")
    assert (tmp_path / "saved/expansion.json").is_file()
    loaded, _ = checkpoints.load(tmp_path / "saved", dtype=contract.named(dtype))
    for (key, found), wanted in zip(loaded.named_parameters(), attached.model.parameters(), strict=True):
        assert torch.equal(found, wanted), key
    assert torch.equal(contract.losses(loaded), expected)
