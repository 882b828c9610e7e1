"""(IA)³ rescales keys, values and the inner activations of the MLP, each by a vector that starts at 1."""

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.training import store
from tasks.io.weights import checkpoints
from tasks.methods.adapters.ia3.config import Ia3Config
from tasks.methods.adapters.ia3.method import attach
from tests import tiny as small
from tests.methods import contract

SMALL = {}


def trainable(model, params):
    """One number for each output, or for each input of a feedforward layer."""
    layers = surgery.linears(model, params.targets)
    inner = [name for name in layers if name.rpartition(".")[2] in params.feedforward]
    return sum(m.in_features if name in inner else m.out_features for name, m in layers.items())


@pytest.fixture
def model():
    """A model whose vectors are not 1 any more."""
    torch.manual_seed(0)
    found = attach(small.qwen2(), Ia3Config(), Start())
    for parameter in found.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    return found.get_base_model()


@pytest.mark.parametrize("name", ["k_proj", "v_proj"])
def test_keys_and_values_are_rescaled(model, name):
    layer = getattr(model.model.layers[0].self_attn, name)
    x = torch.randn(5, layer.in_features)
    l_O = layer.ia3_l["default"].flatten()
    torch.testing.assert_close(layer(x), l_O * (x @ layer.base_layer.weight.T + layer.base_layer.bias))


def test_the_inner_activations_are_rescaled(model):
    mlp = model.model.layers[0].mlp
    x = torch.randn(5, model.config.hidden_size)
    inner = torch.nn.functional.silu(x @ mlp.gate_proj.weight.T) * (x @ mlp.up_proj.weight.T)
    l_I = mlp.down_proj.ia3_l["default"].flatten()
    assert l_I.shape == (model.config.intermediate_size,)
    torch.testing.assert_close(mlp(x), (l_I * inner) @ mlp.down_proj.base_layer.weight.T)


def test_nothing_else_is_touched(model):
    adapted = {name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "ia3_l")}
    assert adapted == {"k_proj", "v_proj", "down_proj"}


def test_every_vector_starts_at_one():
    found = attach(small.qwen2(), Ia3Config(), Start())
    assert all(torch.equal(p, torch.ones_like(p)) for p in found.parameters() if p.requires_grad)


def test_other_targets_may_leave_the_feedforward_layer_out():
    found = attach(small.qwen2(), Ia3Config(targets=("v_proj",)), Start())
    assert sum(p.numel() for p in found.parameters() if p.requires_grad) == 2 * 24


def test_a_feedforward_layer_that_is_none_is_refused():
    with pytest.raises(ValueError, match="donw_proj match no linear layer of Qwen2ForCausalLM"):
        attach(small.qwen2(), Ia3Config(feedforward=("donw_proj",)), Start())


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_over_quantised_weights_it_is_scored_in_bf16_too(tiny, tmp_path, base):
    pytest.importorskip("bitsandbytes")
    parts = contract.composition(bases=base, adapters="ia3")
    quantization = parts.base.method.quantization(parts.base.config)
    model, _ = checkpoints.load(tiny, quantization=quantization)
    attached, _ = contract.composed(model, parts)
    store.save(attached, parts, None, tmp_path / "saved")
    config = {"methods": {base: parts.base.config.model_dump(mode="json")}}
    checkpoints.write_card(tmp_path / "saved", method=parts.names, settings=config)
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny, dtype="bfloat16")
    torch.testing.assert_close(contract.losses(loaded), contract.losses(model), rtol=0, atol=0.1)
