"""FourierFT's update is the real part of an inverse Fourier transform of a few coefficients."""

import math

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.engine.training import compose
from tasks.methods.adapters.fourierft.config import FourierftConfig
from tasks.methods.adapters.fourierft.method import attach
from tests import tiny as small
from tests.methods import contract

SMALL = {"n": 16, "alpha": 30.0}


def trainable(model, params):
    """n for every layer."""
    return params.n * len(surgery.linears(model, params.targets))


def layers(**config):
    """The first decoder layer of an adapted model."""
    torch.manual_seed(0)
    return attach(small.qwen2(), FourierftConfig(**SMALL | config), Start()).get_base_model().model.layers[0]


def places(layer):
    return layer.indices["default"]


@pytest.mark.parametrize(("block", "name"), [("self_attn", "k_proj"), ("mlp", "down_proj")])
def test_the_update_is_a_sum_of_waves(block, name):
    """ΔW[p, q] = alpha / (d₁ d₂) Σ_k c_k cos(2π (p j_k / d₁ + q l_k / d₂)), which is eq. 3 and 4 written out."""
    layer = getattr(getattr(layers(), block), name)
    out, into = layer.out_features, layer.in_features
    c_K, (j_K, l_K) = layer.fourierft_spectrum["default"], places(layer)
    p, q = torch.arange(out)[:, None, None], torch.arange(into)[None, :, None]
    waves = torch.cos(2 * math.pi * (p * j_K / out + q * l_K / into))
    update_OI = 30.0 / (out * into) * (c_K * waves).sum(dim=-1)
    x = torch.randn(5, into)
    bias = 0 if layer.base_layer.bias is None else layer.base_layer.bias
    torch.testing.assert_close(layer(x), x @ (layer.base_layer.weight + update_OI).T + bias, rtol=1e-4, atol=1e-4)


def test_the_places_are_distinct_shared_by_shape_and_drawn_from_their_seed():
    first = layers()
    assert len({tuple(place) for place in places(first.mlp.up_proj).T.tolist()}) == 16
    assert torch.equal(places(first.self_attn.k_proj), places(first.self_attn.v_proj))
    assert not torch.equal(places(layers(entry_seed=1).mlp.up_proj), places(first.mlp.up_proj))


def test_the_coefficients_start_as_standard_noise():
    c_K = layers(n=1152).self_attn.k_proj.fourierft_spectrum["default"]
    assert c_K.mean().item() == pytest.approx(0, abs=0.1)
    assert c_K.std().item() == pytest.approx(1, abs=0.1)


def test_a_zero_start_is_the_base():
    x = torch.randn(5, 48)
    layer = layers(zero_start=True).self_attn.q_proj
    assert torch.equal(layer(x), layer.base_layer(x))


def test_llama_7b_learns_64_thousand_numbers_as_in_the_paper():
    """Table 4: 0.064 M on q and v."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    assert trainable(model, FourierftConfig(targets=("q_proj", "v_proj"))) == 64_000


def test_more_coefficients_than_a_layer_has_numbers_are_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"n 2049 is above .*k_proj, 32 × 64: take at most 2048\."):
        attach(small.load(tiny), FourierftConfig(n=2049), Start())


@pytest.mark.parametrize("wrong", [{"n": 0}, {"alpha": 0}, {"entry_seed": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FourierftConfig(**wrong)


def test_noise_stands_in_no_layer_that_is_read_past_an_adapter():
    """It would be in the merged weights and not in the model that trained."""
    model = small.family("mamba", vocab_size=259, time_step_rank=8)
    parts = contract.composition(adapters="fourierft")
    attached, optimizer = contract.composed(model, parts)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)
    expected = contract.losses(attached.model)
    torch.testing.assert_close(contract.losses(compose.merge(attached.model, parts)), expected, rtol=1e-4, atol=1e-4)
