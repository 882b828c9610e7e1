"""What every adapter owes: it is run for each file found in the folder, on a LLaMA and on a Qwen2."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from peft import PeftModel
from torch import nn

from tasks import methods
from tasks.core.weights.surgery import decoder_layers, owners, plain
from tasks.engine.forward import token_losses
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose, store
from tasks.io.weights import checkpoints
from tests import tiny as small
from tests.methods import contract
from tests.methods.test_lora import JAMBA

ADAPTERS = methods.names("adapters")
OWN = [name for name in ADAPTERS if name != "none"]
TARGETING = [name for name in OWN if "targets" in methods.spec("adapters", name).config.model_fields]
MERGEABLE = [name for name in OWN if methods.spec("adapters", name).merges]
FINISHING = [name for name in OWN if methods.load("adapters", name).finish]


@pytest.fixture(params=contract.MODELS)
def kind(request):
    return request.param


def trained(name, model):
    """The model after a few steps with this adapter."""
    parts = contract.composition(adapters=name)
    attached, optimizer = contract.composed(model, parts, hasty=model.dtype is torch.bfloat16)
    contract.steps(attached, optimizer, parts)
    return attached, parts


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_a_fresh_adapter_computes_what_the_base_computes(tiny, kind, name, dtype):
    method = contract.part("adapters", name)
    expected = contract.losses(contract.model(kind, tiny, dtype))
    found = contract.losses(contract.attached(method, contract.model(kind, tiny, dtype)))
    if method.spec.difference:
        assert not torch.allclose(found, expected), "it says that it differs"
    else:
        tolerance = contract.said(name, "TOLERANCE", 0.0) * (1 if dtype is torch.float32 else 2**13)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_trains_moves_and_nothing_else(tiny, kind, name, dtype):
    parts = contract.composition(adapters=name)
    attached, optimizer = contract.composed(contract.model(kind, tiny, dtype), parts, hasty=True)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)


@pytest.mark.parametrize("name", OWN)
def test_an_adapter_trains_as_many_numbers_as_its_card_says(tiny, kind, name):
    count = contract.said(name, "trainable")
    assert count, f"tests/methods/test_{name}.py says nothing of what trains"
    method = contract.part("adapters", name)
    expected = count(contract.model(kind, tiny), method.config)
    found = contract.attached(method, contract.model(kind, tiny))
    assert sum(p.numel() for p in found.parameters() if p.requires_grad) == expected
    assert 0 < expected < contract.model(kind, tiny).num_parameters()


def plain_of(model):
    """A model of this class and config, as transformers makes it: without numbers."""
    with torch.device("meta"):
        return type(model)(model.config)


@pytest.mark.parametrize("name", MERGEABLE)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_merged_weights_compute_the_same_function(tiny, kind, name, dtype):
    attached, parts = trained(name, contract.model(kind, tiny, dtype))
    expected = contract.losses(attached.model)
    start = contract.losses(contract.model(kind, tiny, dtype))
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    assert not torch.allclose(expected, start, rtol=0, atol=1e-4), "nothing was trained"
    merged = compose.merge(attached.model, parts)
    assert {n: p.shape for n, p in merged.named_parameters()} == {
        n: p.shape for n, p in plain_of(merged).named_parameters()
    }
    assert methods.spec("adapters", name).narrows == (
        merged.config.hidden_size < contract.model(kind, tiny).config.hidden_size
    )
    torch.testing.assert_close(contract.losses(merged), expected, rtol=tolerance, atol=tolerance)


ON_STATES = [name for name in MERGEABLE if name in TARGETING and not methods.spec("adapters", name).of_rows]
RECURRENT = {"mamba": {"time_step_rank": 8}, "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8}}


@pytest.mark.parametrize("name", ON_STATES)
@pytest.mark.parametrize("family", RECURRENT)
def test_recurrent_layers_train_and_are_merged(family, name):
    targets = {"targets": "all-linear", **({"feedforward": ()} if name == "ia3" else {})}
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, **targets))
    probe = contract.looking([collate([Pack((one,))]) for one in small.sequences(3, seed=2)])
    attached = compose.compose(small.family(family, vocab_size=259, **RECURRENT[family]), parts, probe, seed=0)
    training = {n: p for n, p in attached.model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in training.values():
            parameter += 0.05 * torch.randn(parameter.shape)  # what starts at zero holds back gradients
    token_losses(plain(attached.model).eval(), contract.batch()).sum().backward()
    assert not [n for n, p in training.items() if p.grad is None or not p.grad.any()]
    expected = contract.losses(attached.model)
    torch.testing.assert_close(contract.losses(compose.merge(attached.model, parts)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", OWN)
def test_other_programs_read_an_adapter_or_it_says_why_not(name):
    spec, method = methods.spec("adapters", name), methods.load("adapters", name)
    assert [bool(spec.wraps), method.finish is not None, bool(spec.no_lora)].count(True) == 1


@pytest.mark.parametrize("name", FINISHING)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_peft_reads_a_lora_of_the_same_function(tiny, kind, tmp_path, name, dtype):
    attached, parts = trained(name, contract.model(kind, tiny, dtype))
    store.save(attached, parts, None, tmp_path / "saved")
    loaded = PeftModel.from_pretrained(contract.model(kind, tiny, dtype), str(tmp_path / "saved"))
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    found, expected = contract.losses(loaded), contract.losses(attached.model)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    start = contract.losses(contract.model(kind, tiny, dtype))
    assert not torch.allclose(expected, start, rtol=0, atol=1e-4), "nothing was trained"


@pytest.mark.parametrize("name", OWN)
def test_a_training_starts_from_a_saved_adapter(tiny, kind, tmp_path, name):
    attached, parts = trained(name, contract.model(kind, tiny))
    store.save(attached, parts, None, tmp_path / "saved")
    torch.manual_seed(5)  # of first weights that are to be replaced
    begun = compose.compose(contract.model(kind, tiny), parts, contract.probe(), 1, saved=tmp_path / "saved")
    assert torch.equal(contract.losses(begun.model), contract.losses(attached.model))
    assert begun.trainable.keys() == attached.trainable.keys()
    assert contract.steps(begun, *optimizer_of(begun, parts)) == set(begun.trainable)


def optimizer_of(attached, parts):
    """The optimizer of what trains, and the parts."""
    return parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, 0), parts


@pytest.mark.parametrize("name", OWN)
def test_a_saved_adapter_is_refused_by_a_model_of_other_layers(tiny, tmp_path, name):
    attached, parts = trained(name, contract.model("llama", tiny))
    store.save(attached, parts, None, tmp_path / "saved")
    narrower = contract.model("qwen2", tiny)
    del decoder_layers(narrower)[-1]
    with pytest.raises(
        ValueError, match=r"does not fit the model it is put on: .* stands on one side only, or in two sizes"
    ):
        compose.compose(narrower, parts, contract.probe(), 0, saved=tmp_path / "saved")


@pytest.mark.parametrize("name", OWN)
def test_what_an_adapter_exempts_from_decay_trains(tiny, kind, name):
    parts = contract.composition(adapters=name)
    attached, _ = contract.composed(contract.model(kind, tiny), parts)
    undecayed = {p for group in compose.groups(attached, parts) if not group.decay for p in group.parameters}
    for segment in parts.adapter.spec.undecayed:
        exempt = [p for key, p in attached.trainable.items() if segment in key.split(".")]
        assert exempt
        assert undecayed.issuperset(exempt)
        assert min(p.ndim for p in exempt) >= 2, "vectors do not decay anyway"


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_what_is_saved_is_loaded_bit_for_bit_and_rounded_only_then(tiny, kind, tmp_path, name, dtype):
    base = tmp_path / "base"
    shutil.copytree(tiny, base, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    contract.model(kind, tiny).save_pretrained(base)
    attached, parts = trained(name, checkpoints.load(base)[0])
    trained_losses = contract.losses(attached.model)
    store.save(attached, parts, None, tmp_path / "saved")
    assert checkpoints.is_adapter(tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", base, dtype=contract.named(dtype))
    expected = compose.merge(attached.model, parts) if parts.adapter.spec.merges else plain(attached.model)
    for (key, found), wanted in zip(loaded.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted.to(found.dtype)), key
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(contract.losses(loaded).float(), trained_losses, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", OWN)
def test_an_adapter_trained_on_other_weights_does_not_load(tiny, tmp_path, name):
    attached, parts = trained(name, contract.model("llama", tiny))
    store.save(attached, parts, None, tmp_path / "saved")
    checkpoints.write_card(tmp_path / "saved", method=parts.names, parent="0" * 64)
    with pytest.raises(ValueError, match="was trained on weights"):
        checkpoints.load(tmp_path / "saved", tiny)


@pytest.mark.parametrize("name", TARGETING)
@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (("w_proj",), "targets w_proj match no linear layer"),
        ((), "targets: names no layer.*set `targets: all-linear`"),
        (("all-linear", "q_proj"), "targets: all-linear stands beside q_proj.*the names alone"),
    ],
)
def test_targets_that_are_missing_unknown_or_contradictory_are_refused(tiny, name, targets, found):
    method = contract.part("adapters", name, targets=targets)
    with pytest.raises(ValueError, match=found):
        contract.attached(method, contract.model("llama", tiny))


@pytest.mark.parametrize("name", TARGETING)
def test_all_linear_means_the_same_alone_in_a_list(tiny, name):
    def trained(targets):
        method = contract.part("adapters", name, targets=targets)
        attached = contract.attached(method, contract.model("llama", tiny))
        return {name for name, parameter in attached.named_parameters() if parameter.requires_grad}

    assert trained(("all-linear",)) == trained("all-linear")


LINEAR = [name for name in OWN if methods.spec("adapters", name).linear]


def adapted(model):
    """The layers that an adapter changed, by their full names."""
    return {name: plain(model).get_submodule(name) for name in set(owners(model).values())}


@pytest.mark.parametrize("name", TARGETING)
def test_the_owner_of_a_parameter_is_the_layer_that_it_adapts(tiny, kind, name):
    method = contract.part("adapters", name)
    model = contract.attached(method, contract.model(kind, tiny))
    owner = owners(model)
    known = {key for key, module in contract.model(kind, tiny).named_modules() if isinstance(module, nn.Linear)}
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert owner.keys() == trained
    assert all(f"{layer}." in parameter for parameter, layer in owner.items())
    assert set(owner.values()) <= known


@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_an_update_is_linear_in_the_tensors_that_the_adapter_names(tiny, kind, name):
    method = contract.part("adapters", name)
    model = contract.attached(method, contract.model(kind, tiny)).eval()
    torch.manual_seed(0)
    places = [p for key, p in model.named_parameters() if set(method.spec.linear) & set(key.split("."))]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    whole, base = [p.clone() for p in places], dict(contract.model(kind, tiny).named_modules())
    inputs = {key: torch.randn(1, 7, base[key].in_features) for key in adapted(model)}

    def outputs(share):
        for parameter, full in zip(places, whole, strict=True):
            parameter.copy_(full * share)
        return {key: layer(inputs[key]) for key, layer in adapted(model).items()}

    none, quarter, full = outputs(0.0), outputs(0.25), outputs(1.0)
    for key in inputs:
        torch.testing.assert_close(none[key], base[key](inputs[key]))
        torch.testing.assert_close(quarter[key] - none[key], 0.25 * (full[key] - none[key]), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(full[key], none[key]), key


@pytest.mark.parametrize("name", TARGETING)
def test_what_adapts_all_linear_layers_is_loaded_as_it_was_saved(tiny, tmp_path, name):
    adapter = contract.part("adapters", name, targets="all-linear")
    parts = replace(contract.composition(), adapter=adapter)
    attached, optimizer = contract.composed(contract.model("llama", tiny), parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    store.save(attached, parts, None, tmp_path / "saved")
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["binadapter", "corda", "loca", "loldu", "soka"])
@pytest.mark.parametrize(
    ("family", "config", "targets"),
    [
        ("mamba", {"time_step_rank": 8}, ["in_proj", "x_proj", "dt_proj", "out_proj"]),
        ("mamba2", {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8}, ["in_proj", "out_proj"]),
    ],
)
def test_recurrent_layers_train_though_they_ask_for_the_weight(name, family, config, targets):
    model = small.family(family, vocab_size=259, **config)
    settings = {"targets": targets} | ({"covariance": "identity"} if name == "corda" else {})
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, **settings))
    attached, optimizer = contract.composed(model, parts, hasty=True)
    assert contract.steps(attached, optimizer, parts, contract.said(name, "STEPS", 3)) == set(attached.trainable)
    trained = contract.losses(attached.model)
    merged = compose.merge(attached.model, parts)
    torch.testing.assert_close(contract.losses(merged), trained, rtol=1e-4, atol=1e-4)
    fresh = small.family(family, vocab_size=259, **config)
    assert not torch.allclose(contract.losses(fresh), trained, atol=1e-3)


@pytest.mark.parametrize("name", ["binadapter", "corda", "loca", "loldu", "soka"])
def test_all_linear_leaves_out_what_a_lora_of_it_would_not_reach(name, tmp_path):
    make = partial(small.family, "jamba", vocab_size=259, **JAMBA)
    settings = {"targets": "all-linear"} | ({"covariance": "identity"} if name == "corda" else {})
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, **settings))
    attached, optimizer = contract.composed(make(), parts, hasty=True)
    contract.steps(attached, optimizer, parts, contract.said(name, "STEPS", 3))
    assert not any("dt_proj" in parameter for parameter in attached.trainable)
    if name in FINISHING:
        store.save(attached, parts, None, tmp_path / "saved")
        loaded = PeftModel.from_pretrained(make(), str(tmp_path / "saved"))
        torch.testing.assert_close(contract.losses(loaded), contract.losses(attached.model), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["binadapter", "corda", "dora", "fourierft", "loldu", "lokr", "lora", "oft"])
def test_layers_that_are_left_out_limit_no_setting(name):
    model = small.family("mamba", vocab_size=259, time_step_rank=2)  # dt_proj reads 2 features
    limits = {"fourierft": {"n": 129}, "oft": {"block_size": 8}}
    settings = limits.get(name, {"rank": 8}) | ({"covariance": "identity"} if name == "corda" else {})
    parts = replace(contract.composition(), adapter=contract.part("adapters", name, targets="all-linear", **settings))
    attached, _ = contract.composed(model, parts)
    assert {n.rpartition(".")[2] for n in owners(attached.model).values()} == {"in_proj"}
    named = contract.part("adapters", name, targets=("in_proj", "dt_proj"), **settings)
    with pytest.raises(ValueError, match=r"dt_proj"):
        contract.composed(small.family("mamba", vocab_size=259, time_step_rank=2), replace(parts, adapter=named))
