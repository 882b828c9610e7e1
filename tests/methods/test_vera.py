"""VeRA is W x + Λ_b B Λ_d A x, with one frozen pair A, B for all layers."""

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.vera.config import VeraConfig
from tasks.methods.adapters.vera.method import attach
from tests import tiny as small

SMALL = {"rank": 16}


def trainable(model, params):
    """b for every output of every layer, and d of each."""
    return sum(m.out_features + params.rank for m in surgery.linears(model, params.targets).values())


@pytest.fixture
def model():
    """A model whose b and d are not as they started."""
    torch.manual_seed(0)
    found = attach(small.qwen2(), VeraConfig(**SMALL), Start())
    for parameter in found.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    return found


@pytest.mark.parametrize(("block", "name"), [("self_attn", "k_proj"), ("mlp", "down_proj"), ("mlp", "up_proj")])
def test_a_layer_is_the_equation(model, block, name):
    layer = getattr(getattr(model.get_base_model().model.layers[1], block), name)
    A_RI, B_OR = (shared["default"] for shared in (model.base_model.vera_A, model.base_model.vera_B))
    b_O, d_R = layer.vera_lambda_b["default"], layer.vera_lambda_d["default"]
    x = torch.randn(5, layer.in_features)
    update_OI = torch.diag(b_O) @ B_OR[: layer.out_features] @ torch.diag(d_R) @ A_RI[:, : layer.in_features]
    bias = 0 if layer.base_layer.bias is None else layer.base_layer.bias
    torch.testing.assert_close(layer(x), x @ (layer.base_layer.weight + update_OI).T + bias, rtol=1e-4, atol=1e-4)


def test_the_shared_matrices_are_frozen_and_as_large_as_the_largest_layer(model):
    A_RI, B_OR = (shared["default"] for shared in (model.base_model.vera_A, model.base_model.vera_B))
    assert (A_RI.shape, B_OR.shape) == ((16, 96), (96, 16))
    layers = [m for m in model.modules() if hasattr(m, "vera_lambda_b")]
    assert all(layer.vera_A["default"] is A_RI and layer.vera_B["default"] is B_OR for layer in layers)
    assert not any("vera_A" in name or "vera_B" in name for name, p in model.named_parameters() if p.requires_grad)


def test_the_shared_matrices_are_kaiming_uniform_of_their_seed():
    """Uniform on ± √(6 / fan in), so that the variance is 2 / fan in."""

    def drawn(seed):
        torch.manual_seed(seed)  # which they do not depend on
        wrapped = attach(small.qwen2(), VeraConfig(rank=64, projection_seed=seed), Start()).base_model
        return wrapped.vera_A["default"], wrapped.vera_B["default"]

    A_RI, B_OR = drawn(0)
    for matrix in (A_RI, B_OR):
        assert matrix.abs().max() <= (6 / matrix.shape[1]) ** 0.5
        assert matrix.var().item() == pytest.approx(2 / matrix.shape[1], rel=0.05)
    assert torch.equal(drawn(0)[0], A_RI)
    assert not torch.equal(drawn(1)[0], A_RI)


def test_b_starts_at_zero_and_d_at_its_setting():
    layer = (
        attach(small.qwen2(), VeraConfig(rank=16, d_initial=0.3), Start()).get_base_model().model.layers[0].mlp.up_proj
    )
    assert torch.equal(layer.vera_lambda_b["default"], torch.zeros(96))
    assert torch.equal(layer.vera_lambda_d["default"], torch.full((16,), 0.3))


def test_llama_7b_learns_1_4_million_numbers_as_in_the_paper():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    assert round(trainable(model, VeraConfig()) / 1e6, 1) == 1.4


def test_a_rank_may_exceed_a_layer(tiny):
    """Sec. 3.1: A and B are not stored as a factorisation, so they need not be thin."""
    model = attach(small.load(tiny), VeraConfig(rank=300), Start())
    assert model.base_model.vera_A["default"].shape == (300, 128)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"d_initial": 0}, {"dropout": 1}, {"projection_seed": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VeraConfig(**wrong)
