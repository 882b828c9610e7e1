"""What every base owes: it is run for each file found in the folder, on a LLaMA and on a Qwen2.

A base's own test file says for it: `BITS`, how many a linear layer's number takes; `TOLERANCE`, how far a token's loss may be
from that under plain weights, in nats.
"""

import shutil
from dataclasses import replace

import pytest
import torch

from tasks import methods
from tasks.core.training import Training
from tasks.core.weights import surgery
from tasks.core.weights.surgery import plain
from tasks.engine.training import store
from tasks.engine.training import train as engine
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods import contract

BASES = methods.names("bases")
QUANTISED = [name for name in BASES if name != "none"]
ADAPTERS = [name for name in methods.names("adapters") if name != "none"]
EXPANDERS = [name for name in methods.names("expanders") if name != "none"]
COMPUTE = [small.FP32, small.BF16]
PLAN = Training(pack_tokens=48, max_tokens=100_000, save_every=50)
SEQUENCES = small.sequences(6, seed=4)


@pytest.fixture(scope="module", params=contract.MODELS)
def folder(request, tiny, tmp_path_factory):
    """A model on disk."""
    if request.param == "llama":
        return tiny
    made = shutil.copytree(tiny, tmp_path_factory.mktemp("qwen2") / "base")
    (made / "model.safetensors").unlink()
    small.qwen2().save_pretrained(made)
    return made


def load(folder, name, dtype=torch.float32):
    """The model in `folder`, its weights stored by this base and the rest of it as `dtype`."""
    part = contract.part("bases", name)
    return checkpoints.load(folder, dtype=contract.named(dtype), quantization=part.method.quantization(part.config))[0]


def train(folder, name, work, model=None, epochs=1, compute=small.FP32):
    """LoRA trained over this base by the engine."""
    plan = PLAN.model_copy(update={"epochs": epochs})
    parts = contract.composition(bases=name, adapters="lora")
    parts = replace(parts, optimizer=contract.part("optimizers", "adamw", learning_rate=1e-2))
    found = load(folder, name) if model is None else model
    return engine.train(found.train(), engine.TrainData(SEQUENCES), parts, plan, compute, work), parts


def frozen(model):
    """The bytes of everything that does not train, by name."""
    inner = plain(model)
    return {
        name.replace(".base_layer", ""): p.detach().clone()
        for name, p in inner.named_parameters()
        if "lora_" not in name
    }


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_stored_weights_compute_nearly_what_plain_ones_compute(folder, name, dtype):
    expected = contract.losses(load(folder, "none", dtype))
    found = contract.losses(load(folder, name, dtype))
    torch.testing.assert_close(found, expected, rtol=0, atol=contract.said(name, "TOLERANCE", 0.0))
    assert torch.equal(found, expected) == (name == "none")


@pytest.mark.parametrize("name", BASES)
def test_linear_layers_are_stored_in_as_many_bits_as_it_says_and_nothing_else_is(folder, name):
    expected = {n: tuple(m.weight.shape) for n, m in surgery.linears(small.load(folder), surgery.ALL_LINEAR).items()}
    model = load(folder, name)
    assert surgery.sizes(model, surgery.ALL_LINEAR) == expected
    for key, (out, into) in expected.items():
        weight = model.get_submodule(key).weight
        assert weight.numel() * weight.element_size() * 8 == contract.said(name, "BITS", 32) * out * into, key
    others = {n: p for n, p in model.named_parameters() if n.removesuffix(".weight") not in expected}
    plainly = dict(small.load(folder).named_parameters())
    assert "model.embed_tokens.weight" in others
    assert all(torch.equal(p, plainly[n]) for n, p in others.items())


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("compute", COMPUTE, ids=lambda compute: compute.precision)
def test_lora_trains_over_it_and_the_base_stays_as_it_is(folder, tmp_path, name, compute):
    model = load(folder, name)
    before = frozen(model)
    outcome, _ = train(folder, name, tmp_path, model, epochs=8, compute=compute)
    losses = [loss for _, _, loss in outcome.losses]
    third = len(losses) // 3
    assert sum(losses[-third:]) < sum(losses[:third]) - 0.1 * third
    assert all("lora_" in key for key in outcome.attached.trainable)
    after = frozen(outcome.model)
    assert after.keys() == before.keys()
    # bitsandbytes turns a bias into the type that it multiplies in, and keeps it so.
    assert all(torch.equal(after[key], before[key].to(after[key].dtype)) for key in before)
    assert all(p.grad is None for n, p in outcome.model.named_parameters() if "lora_" not in n)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_gradients_are_the_same_after_a_look_in_evaluation_mode(folder, name, dtype):
    def gradients(look):
        torch.manual_seed(0)
        model = load(folder, name, dtype)
        if look:
            contract.losses(model)
        attached, _ = contract.composed(model, contract.composition(bases=name, adapters="lora"))
        plain(attached.model).train()(**contract.batch())["loss"].backward()
        return [p.grad for p in attached.trainable.values()]

    first, second = gradients(look=False), gradients(look=True)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert any(gradient.any() for gradient in first)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_was_trained_over_it_loads_onto_the_same_storage(folder, tmp_path, name, dtype):
    outcome, parts = train(folder, name, tmp_path / "work", load(folder, name, dtype))
    expected = contract.losses(outcome.model)
    store.save(outcome.attached, parts, None, tmp_path / "saved")
    config = {"methods": {name: parts.base.config.model_dump(mode="json")}}
    checkpoints.write_card(tmp_path / "saved", method=parts.names, settings=config)
    assert [file.name for file in (tmp_path / "saved").glob("*.safetensors")] == ["adapter_model.safetensors"]
    loaded, _ = checkpoints.load(tmp_path / "saved", folder, dtype=contract.named(dtype))
    if name == "none":  # it is merged
        tolerance = 1e-5 if dtype is torch.float32 else 0.1
        torch.testing.assert_close(contract.losses(loaded), expected, rtol=0, atol=tolerance)
        return
    assert torch.equal(contract.losses(loaded), expected)
    stored = {key: p for key, p in load(folder, name, dtype).named_parameters() if not p.is_floating_point()}
    kept = frozen(loaded)
    assert stored, "nothing is quantised"
    assert all(torch.equal(kept[key], weight) for key, weight in stored.items()), "it was merged"


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("compute", COMPUTE, ids=lambda compute: compute.precision)
def test_the_same_seed_gives_the_same_losses(tiny, tmp_path, name, compute):
    first, second = (train(tiny, name, tmp_path / f"{n}", compute=compute)[0].losses for n in (1, 2))
    assert first == second


REFUSED = {("int8", "dora")} | {
    (base, adapter) for base in ("int8", "nf4") for adapter in ("loldu", "corda", "soka", "lokr")
}
"""Those that need a layer's numbers."""


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_an_adapter_trains_over_it_or_says_why_not(tiny, name, adapter, dtype):
    parts = contract.composition(bases=name, adapters=adapter)
    model = load(tiny, name, dtype)
    if (name, adapter) in REFUSED:
        with pytest.raises(ValueError, match=r"is stored as torch\.u?int8, .*\. Use .*`base: none`\.$"):
            contract.composed(model, parts, hasty=True)
        return
    attached, optimizer = contract.composed(model, parts, hasty=True)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("adapter", ["mola", "dept", "binadapter"])
def test_an_adapter_of_our_own_trains_over_it_by_the_engine(tiny, tmp_path, name, adapter):
    """Trainer takes quantised models with peft's adapters, and is told of others."""
    model = load(tiny, name)
    before = [p.detach().clone() for p in model.parameters()]
    parts = replace(contract.composition(bases=name, adapters=adapter), optimizer=contract.part("optimizers", "adamw"))
    outcome = engine.train(model.train(), engine.TrainData(SEQUENCES), parts, PLAN, small.FP32, tmp_path)
    assert outcome.losses[-1][2] < outcome.losses[0][2]
    trained = {id(p) for p in outcome.attached.trainable.values()}
    after = [p for p in plain(outcome.model).parameters() if id(p) not in trained]
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))
    assert not plain(outcome.model)._hf_peft_config_loaded, "transformers would look for peft's config"


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_experts_over_it_are_kept(folder, tmp_path, name, dtype):
    parts = contract.composition(bases=name, adapters="mola")
    attached, optimizer = contract.composed(load(folder, name, dtype), parts, hasty=True)
    contract.steps(attached, optimizer, parts)
    store.save(attached, parts, None, tmp_path / "saved")
    config = {"methods": {name: parts.base.config.model_dump(mode="json")}}
    checkpoints.write_card(tmp_path / "saved", method=parts.names, settings=config)
    loaded, _ = checkpoints.load(tmp_path / "saved", folder, dtype=contract.named(dtype))
    assert torch.equal(contract.losses(loaded), contract.losses(attached.model))


@pytest.mark.parametrize("name", QUANTISED)
def test_its_own_weights_do_not_train(tiny, name):
    with pytest.raises(ValueError, match=f"base '{name}' stores"):
        contract.composed(load(tiny, name), contract.composition(bases=name, adapters="none"))


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("expander", EXPANDERS)
def test_an_expander_over_it_is_refused(tiny, name, expander):
    with pytest.raises(ValueError, match=f"expander '{expander}' .* base '{name}' stores"):
        contract.composed(load(tiny, name), contract.composition(bases=name, expanders=expander))


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("adapter", ["lora", "binadapter"])
def test_layers_whose_weight_is_read_past_them_keep_its_numbers(tiny, tmp_path, name, adapter):
    base = shutil.copytree(tiny, tmp_path / "base")
    small.family("mamba", vocab_size=259, time_step_rank=8).save_pretrained(base)
    parts = contract.composition(bases=name)
    parts = replace(parts, adapter=contract.part("adapters", adapter, targets="all-linear"))
    model = load(base, name)
    plain_ones = {n.rpartition(".")[2] for n, m in model.named_modules() if type(m) is torch.nn.Linear}
    assert plain_ones == {"lm_head", *surgery.BYPASSED["mamba"]}
    attached, optimizer = contract.composed(model, parts)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)
    store.save(attached, parts, None, tmp_path / "saved")
    config = {"methods": {name: parts.base.config.model_dump(mode="json")}}
    checkpoints.write_card(tmp_path / "saved", method=parts.names, settings=config)
    loaded, _ = checkpoints.load(tmp_path / "saved", base)
    torch.testing.assert_close(contract.losses(loaded), contract.losses(attached.model), rtol=0, atol=1e-3)
