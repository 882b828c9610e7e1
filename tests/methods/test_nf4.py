"""NF4 keeps a weight as the nearest of 16 levels, which are quantiles of a normal distribution, times a scale of its block."""

import pytest
import torch
from scipy.stats import norm

from tasks.io.weights import checkpoints
from tasks.methods.bases.nf4 import method as nf4
from tasks.methods.bases.nf4.config import Nf4Config
from tasks.methods.bases.nf4.method import quantization
from tests import tiny as small

pytest.importorskip("bitsandbytes")
from bitsandbytes import functional as bnb

BITS = 4
TOLERANCE = 0.2
SHAPE = (256, 256)


def levels():
    """The paper's 16: quantiles of N(0, 1), 8 below zero, 7 above it and zero itself, scaled to [−1, 1].

    The outermost stand half a step before the ends, where a step is the mean of those of a grid of 15 and of 16 levels.
    """
    end = 1 - (1 / 30 + 1 / 32) / 2
    above = norm.ppf(torch.linspace(end, 0.5, 9)[:-1].numpy())
    below = -norm.ppf(torch.linspace(end, 0.5, 8)[:-1].numpy())
    both = torch.tensor([*above, 0.0, *below], dtype=torch.float32).sort().values
    return both / both.abs().max()


def normal():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def nearest(weight, grid):
    """Each block of 64 by its largest number, at the nearest level of `grid`."""
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    return (grid[((blocks / scale)[..., None] - grid).abs().argmin(dim=-1)] * scale).reshape(weight.shape)


def stored(weight, double_quant):
    """What bitsandbytes keeps of a weight under our settings, and what it reads back."""
    config = quantization(Nf4Config(double_quant=double_quant))
    packed, state = bnb.quantize_4bit(
        weight,
        quant_type=config.bnb_4bit_quant_type,
        compress_statistics=config.bnb_4bit_use_double_quant,
        blocksize=64,
    )
    return packed, state, bnb.dequantize_4bit(packed, state)


def error(found, weight):
    return (found - weight).pow(2).mean().sqrt().item()


def test_the_levels_are_the_quantiles_of_a_normal_distribution():
    torch.testing.assert_close(bnb.get_4bit_type("nf4", device="cpu"), levels(), rtol=0, atol=1e-4)


def test_a_weight_is_its_nearest_level_times_the_scale_of_its_block():
    _, _, found = stored(normal(), double_quant=False)
    torch.testing.assert_close(found, nearest(normal(), levels()), rtol=0, atol=1e-3)


def test_normal_weights_lose_less_than_at_even_levels():
    """Section 3: levels at quantiles are used equally often; 16 even ones waste those near the ends."""
    _, _, found = stored(normal(), double_quant=True)
    even = nearest(normal(), torch.linspace(-1, 1, 16))
    assert error(found, normal()) < 0.95 * error(even, normal())
    blocks = normal().reshape(-1, 64)
    used = ((blocks / blocks.abs().amax(dim=1, keepdim=True))[..., None] - levels()).abs().argmin(dim=-1)
    share = torch.bincount(used.flatten(), minlength=16) / used.numel()
    assert share.max() < 0.12


@pytest.mark.parametrize(("double_quant", "bits"), [(False, 0.5), (True, 0.127)])
def test_scales_cost_as_many_bits_a_weight_as_the_paper_says(double_quant, bits):
    packed, state, found = stored(normal(), double_quant)
    assert packed.numel() * packed.element_size() * 8 == 4 * normal().numel()
    kept = [state.absmax, *([state.state2.absmax] if double_quant else [])]
    assert sum(t.numel() * t.element_size() * 8 for t in kept) / normal().numel() == pytest.approx(bits, abs=5e-4)
    single = stored(normal(), double_quant=False)[2]
    assert error(found, normal()) == pytest.approx(error(single, normal()), rel=0.01)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_a_layer_multiplies_in_the_precision_asked_for(tiny, compute_dtype):
    model, _ = checkpoints.load(tiny, quantization=quantization(Nf4Config(compute_dtype=compute_dtype)))
    layer = model.model.layers[0].mlp.up_proj
    weight = bnb.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    plain = small.load(tiny).model.layers[0].mlp.up_proj.weight
    assert 0 < error(weight, plain) < 0.1 * plain.std().item()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    dtype = getattr(torch, compute_dtype)
    expected = (x.to(dtype) @ weight.to(dtype).T).float()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6 if compute_dtype == "float32" else 2e-3)
    assert torch.equal(layer(x), layer(x).bfloat16().float()) == (compute_dtype == "bfloat16")


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nf4._bitsandbytes, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"base 'nf4' needs bitsandbytes, .*: pip install -e '\.\[quantize\]'\."):
        quantization(Nf4Config())


@pytest.mark.parametrize("wrong", [{"compute_dtype": "int8"}, {"double_quant": "often"}, {"bits": 4}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Nf4Config(**wrong)
