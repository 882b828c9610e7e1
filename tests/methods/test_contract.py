"""What every file of a family owes: it is run for each one found in the folder."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks import methods
from tasks.core.params import Params
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.io import checkpoints
from tasks.methods.objectives import Tokens
from tests import tiny as small

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(family, name) for family in methods.families() for name in methods.names(family)]
ADAPTERS = methods.names("adapters")
# How a method's settings differ from their defaults: a small model, and steps that bf16 can tell from none.
SETTINGS = {"lora": {"rank": 4}, "adamw": {"learning_rate": 0.02}}
DTYPES = [torch.float32, torch.bfloat16]


def method(family, name):
    return methods.load(family, name).METHOD


def params(family, name):
    return method(family, name).params(**SETTINGS.get(name, {}))


def attach(name, model):
    return method("adapters", name).attach(model, params("adapters", name))


def batch():
    return collate([Pack(tuple(small.sequences(3, seed=1)))])


@torch.no_grad()
def losses(model):
    """The token losses of the plain model inside."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    use_packed_attention(plain)
    return token_losses(plain.eval(), batch())


def step(model, optimizer="adamw"):
    """One optimizer step on the losses of one row; the parameters that it moved."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    use_packed_attention(plain)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    made = method("optimizers", optimizer).make(model, params("optimizers", optimizer))
    # Two, since an adapter that starts at zero moves one half at a time.
    for _ in range(2):
        made.zero_grad()
        token_losses(plain.train(), batch()).sum().backward()
        made.step()
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def trains(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_has_defaults_for_all_its_settings(family, name):
    kind = method(family, name).params
    assert issubclass(kind, Params)
    kind()
    assert all(field.description for field in kind.model_fields.values()), "every setting has a docstring under it"


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_method_is_a_record_of_its_family(family, name):
    records = vars(importlib.import_module(f"tasks.methods.{family}")).values()
    kinds = tuple(kind for kind in records if isinstance(kind, type) and kind.__module__ == f"tasks.methods.{family}")
    assert isinstance(method(family, name), kinds)


def test_no_method_imports_torch_before_it_is_used():
    modules = [f"tasks.methods.{family}.{name}" for family, name in EVERY]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_fresh_adapter_computes_what_the_base_computes(tiny, name, dtype):
    expected = losses(small.load(tiny).to(dtype))
    assert torch.equal(losses(attach(name, small.load(tiny).to(dtype))), expected)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_trains_moves_and_nothing_else(tiny, name, dtype):
    model = attach(name, small.load(tiny).to(dtype))
    expected = trains(model)
    assert expected
    assert step(model) == expected


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "none"])
def test_an_adapter_trains_little_and_none_of_the_base(tiny, name):
    base = small.load(tiny)
    total = base.num_parameters()
    before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    model = attach(name, base)
    assert 0 < sum(p.numel() for p in model.parameters() if p.requires_grad) < total / 2
    step(model)
    for key, found in model.get_base_model().named_parameters():
        if (plain := key.replace(".base_layer", "")) in before:
            assert torch.equal(found, before[plain])


@pytest.mark.parametrize("name", [name for name in ADAPTERS if method("adapters", name).mergeable and name != "none"])
def test_merged_weights_compute_the_same_function(tiny, name):
    model = attach(name, small.load(tiny))
    start = losses(model)
    step(model)
    expected = losses(model)
    assert not torch.allclose(expected, start, atol=1e-4), "nothing was trained"
    torch.testing.assert_close(losses(model.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_saved_is_loaded_bit_for_bit(tiny, tmp_path, name):
    model = attach(name, small.load(tiny))
    step(model)
    model.save_pretrained(tmp_path / "saved")
    for file in tiny.glob("tokenizer*"):
        (tmp_path / "saved" / file.name).write_bytes(file.read_bytes())
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    expected = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    for (key, found), wanted in zip(loaded.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(found, wanted), key


@pytest.mark.parametrize("name", methods.names("selectors"))
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_selector_unfreezes_nothing_and_leaves_something(tiny, name, adapter):
    model = attach(adapter, small.load(tiny))
    before = trains(model)
    method("selectors", name).choose(model, params("selectors", name))
    assert trains(model)
    assert trains(model) <= before
    assert step(model) == trains(model)


@pytest.mark.parametrize("name", methods.names("optimizers"))
def test_an_optimizer_moves_what_trains_and_nothing_else(tiny, name):
    model = small.load(tiny)
    model.requires_grad_(False)
    model.model.layers[0].requires_grad_(True)
    assert step(model, optimizer=name) == trains(model)


@pytest.mark.parametrize("name", methods.names("optimizers"))
def test_an_optimizer_lowers_the_loss(tiny, name):
    model = small.load(tiny)
    before = losses(model).sum()
    step(model, optimizer=name)
    assert losses(model).sum() < before


@pytest.mark.parametrize("name", methods.names("objectives"))
def test_an_objective_is_a_sum_over_tokens_that_scales_with_their_weights(name):
    nll = torch.rand(6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    segments = torch.tensor([0, 0, 0, 1, 1, 1])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])
    kind = method("objectives", name)

    def loss(weights, nll=nll, segments=segments):
        return kind.loss(nll, Tokens(weights=weights, segments=segments), params("objectives", name))

    assert loss(weights).shape == ()
    assert loss(weights).requires_grad
    torch.testing.assert_close(loss(2 * weights), 2 * loss(weights))
    torch.testing.assert_close(
        loss(weights), loss(weights[:3], nll[:3], segments[:3]) + loss(weights[3:], nll[3:], segments[3:])
    )
