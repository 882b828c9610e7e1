"""Weights in 8 and 4 bits: as far from the original as their grids say, small on disk, and opened again as they were."""

import pytest
import torch
from safetensors.torch import load_file

from tasks.io.weights import checkpoints
from tasks.methods.compressors.bitsandbytes import method as bitsandbytes
from tasks.methods.compressors.bitsandbytes.config import BitsandbytesConfig
from tasks.methods.compressors.bitsandbytes.method import read, write
from tests import tiny as small
from tests.methods import contract

SMALL = {"bits": 4}
TOLERANCE = 0.2
NF4 = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
NF4 = torch.tensor([*NF4, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1])  # appendix E of the QLoRA paper


@pytest.fixture
def round_trip(tiny, tmp_path):
    """A LLaMA, and itself as it comes back from these bits."""

    def of(bits, dtype="float32"):
        model = small.load(tiny)
        write(model, checkpoints.load_tokenizer(tiny), tmp_path, BitsandbytesConfig(bits=bits))
        return model, read(tmp_path, dtype, "cpu")[0]

    return of


def plain(layer):
    """The weight of a quantised layer in full, from what is stored of it."""
    if hasattr(layer.weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    return layer.weight.data.float() * layer.weight.SCB[:, None] / 127


def test_eight_bits_are_off_by_half_a_step_of_their_row(round_trip):
    model, found = round_trip(8)
    weight = model.model.layers[0].mlp.up_proj.weight.detach().bfloat16().float()  # as it is handed over
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    error = (plain(found.model.layers[0].mlp.up_proj) - weight).abs()
    assert (error <= 0.5 * step + 127 / 2**11 * step).all()  # it works in float16
    assert error.max() > 0


def test_four_bits_are_one_of_sixteen_values_of_their_block(round_trip):
    _, found = round_trip(4)
    blocks = plain(found.model.layers[0].mlp.up_proj).reshape(-1, 64)
    shapes = blocks / blocks.abs().amax(dim=1, keepdim=True)
    assert (shapes[..., None] - NF4).abs().amin(dim=-1).max() < 0.005  # it works in bfloat16


@torch.no_grad()
@pytest.mark.parametrize(("bits", "rounded"), [(8, True), (4, False)])
def test_with_eight_bits_what_a_layer_is_given_is_rounded_too(round_trip, bits, rounded):
    layer = round_trip(bits)[1].model.layers[0].mlp.up_proj
    given = torch.full((1, layer.in_features), 0.4 / 127)  # all but the first are less than half a step of the first
    given[0, 0] = 1.0
    weight = plain(layer)  # before its first use, which moves what is stored
    small_part = given[:, 1:] @ weight[:, 1:].T
    error = (layer(given) - given @ weight.T).norm() / small_part.norm()
    assert (error > 0.5) == rounded


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_stored_is_what_is_opened(round_trip, tmp_path, bits):
    _, found = round_trip(bits)
    expected = contract.losses(found)
    again, _ = read(tmp_path, "float32", "cpu")
    assert torch.equal(contract.losses(again), expected)


def test_a_weight_takes_its_bits_and_the_rest_sixteen(round_trip, tmp_path):
    model, _ = round_trip(4)
    stored = load_file(tmp_path / "model.safetensors")
    layer = model.model.layers[0].mlp.up_proj.weight
    assert stored["model.layers.0.mlp.up_proj.weight"].numel() == layer.numel() / 2
    assert stored["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert stored["model.norm.weight"].dtype == torch.bfloat16
    assert "lm_head.weight" not in stored  # tied


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_computes_in_the_precision_asked_for(round_trip, bits, dtype):
    _, found = round_trip(bits, dtype)
    with torch.no_grad():
        logits = found(torch.tensor([[3, 1, 4]])).logits
    assert logits.dtype == getattr(torch, dtype)
    assert logits.isfinite().all()


def test_without_the_package_it_says_how_to_get_it(round_trip, tmp_path, monkeypatch):
    round_trip(8)
    monkeypatch.setattr(bitsandbytes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[quantize\]'"):
        round_trip(8)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[quantize\]'"):
        read(tmp_path, "float32", "cpu")


def test_other_numbers_of_bits_are_refused():
    with pytest.raises(ValueError, match="bits"):
        BitsandbytesConfig(bits=3)
