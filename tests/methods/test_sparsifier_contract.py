"""What every sparsifier owes: it is run for each file found in the folder, over a LoRA of attention, on a LLaMA and a Qwen2."""

from dataclasses import replace

import pytest
import torch

from tasks import methods
from tasks.core.records import Message
from tasks.core.training import Training
from tasks.core.weights.surgery import plain
from tasks.engine.inference import generation
from tasks.engine.training import checkpointing, compose, store
from tasks.engine.training.allocations import saved_bytes
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.engine.training.test_train import straight_and_resumed
from tests.methods import contract

SPARSIFIERS = methods.names("sparsifiers")
SPARING = [name for name in SPARSIFIERS if name != "none"]
ATTENTION = {"rank": 4, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


def over_lora(name="none"):
    """LoRA in attention, and a sparsifier."""
    parts = contract.composition(sparsifiers=name, adapters="lora")
    return replace(parts, adapter=contract.part("adapters", "lora", **ATTENTION))


def composed(model, parts):
    """A model with its parts, the new weights drawn alike each time."""
    torch.manual_seed(0)
    return contract.composed(model, parts, hasty=True)


@pytest.mark.parametrize("name", SPARSIFIERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_scoring_sees_the_plain_model(tiny, kind, name, dtype):
    bare, _ = composed(contract.model(kind, tiny, dtype), over_lora())
    expected = contract.losses(bare.model)
    parts = over_lora(name)
    attached, optimizer = composed(contract.model(kind, tiny, dtype), parts)
    assert torch.equal(contract.losses(attached.model), expected)
    contract.steps(attached, optimizer, parts)
    trained = contract.losses(attached.model)
    assert not torch.equal(trained, expected)
    parts.sparsifier.method.restore(attached.model)
    assert torch.equal(contract.losses(attached.model), trained)


@pytest.mark.parametrize("name", SPARING)
def test_a_pass_of_a_training_keeps_less(tiny, kind, name):
    sizes = [
        saved_bytes(composed(contract.model(kind, tiny).train(), over_lora(each))[0].model, contract.batch())
        for each in ("none", name)
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("name", SPARSIFIERS)
def test_what_a_model_consists_of_stays(tiny, kind, name):
    expected, _ = composed(contract.model(kind, tiny), over_lora())
    attached, _ = composed(contract.model(kind, tiny), over_lora(name))
    for side in ("named_parameters", "named_buffers", "named_modules"):
        assert [key for key, _ in getattr(attached.model, side)()] == [
            key for key, _ in getattr(expected.model, side)()
        ]
    over_lora(name).sparsifier.method.restore(attached.model)
    changed = {key for key, module in plain(attached.model).named_modules() if "forward" in vars(module)}
    assert changed == {""}, "the loss is bound into the model's own forward"


@pytest.mark.parametrize("name", SPARSIFIERS)
def test_all_that_trains_moves_and_nothing_else(tiny, kind, name):
    parts = over_lora(name)
    attached, optimizer = composed(contract.model(kind, tiny), parts)
    assert contract.steps(attached, optimizer, parts, count=3) == set(attached.trainable)


@pytest.mark.parametrize("name", SPARING)
def test_what_is_saved_is_an_ordinary_adapter(tiny, tmp_path, name):
    parts = over_lora(name)
    attached, optimizer = composed(contract.model("llama", tiny), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    _, tokenizer = checkpoints.load(tiny)
    store.save(attached, parts, tokenizer, tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), expected, rtol=1e-5, atol=1e-5)  # which is merged as it is read
    assert torch.equal(contract.losses(compose.merge(attached.model, parts)), contract.losses(loaded))


@torch.no_grad()
@pytest.mark.parametrize("name", SPARING)
def test_a_model_writes_what_it_writes_without_it(tiny, name):
    model, tokenizer = small.decided(tiny)
    prompts = [[Message("user", "A long question of many words?")]]
    expected = generation.write(model, prompts, tokenizer, max_new_tokens=8, batch_size=1)
    model.requires_grad_(False)
    part = contract.part("sparsifiers", name)
    part.method.sparsify(model, part.config, 0)
    assert generation.write(model, prompts, tokenizer, max_new_tokens=8, batch_size=1) == expected


@pytest.mark.parametrize("name", SPARING)
def test_killed_and_resumed_it_ends_in_the_bytes_of_a_straight_run(tiny, tmp_path, name):
    straight, resumed = straight_and_resumed(tiny, tmp_path, over_lora(name))
    assert all(
        torch.equal(resumed.attached.trainable[key], tensor) for key, tensor in straight.attached.trainable.items()
    )
    assert not any("forward" in vars(module) for module in plain(straight.model).get_decoder().modules())


@pytest.mark.parametrize("name", SPARING)
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_reference_that_leaves_nothing_out_is_not_what_a_training_is_compared_with(name, objective):
    parts = replace(over_lora(name), objective=contract.part("objectives", objective))
    with pytest.raises(ValueError, match=f"objective '{objective}' compares .* sparsifier '{name}' changes the former"):
        compose.check(parts)


@pytest.mark.parametrize("name", SPARING)
@pytest.mark.parametrize("optimizer", ["mezo", "zo2"])
def test_without_gradients_there_is_nothing_to_spare(name, optimizer):
    parts = replace(over_lora(name), optimizer=contract.part("optimizers", optimizer))
    with pytest.raises(
        ValueError,
        match=f"sparsifier '{name}' saves .* optimizer '{optimizer}' has none. Use `sparsifier: none`",
    ):
        compose.check(parts)


def test_a_training_without_one_has_the_settings_and_names_that_it_had(tiny):
    assert "sparsifier" not in Training().model_dump()
    assert "sparsifier" not in over_lora().names
    recorded = checkpointing.settings_of(over_lora(), Training(), small.FP32, 3)
    assert "sparsifier" not in recorded
    assert Training(sparsifier="lemo").model_dump()["sparsifier"] == "lemo"
    assert over_lora("lemo").names["sparsifier"] == "lemo"
    assert {"sparsifier", "lemo.keep"} <= checkpointing.settings_of(
        over_lora("lemo"), Training(sparsifier="lemo"), small.FP32, 3
    ).keys()
