"""LLM.int8() multiplies rows of numbers as integers, and the features of outliers in 16 bits."""

import pytest
import torch

from tasks.io.weights import checkpoints
from tasks.methods.bases.int8 import method as int8
from tasks.methods.bases.int8.config import Int8Config
from tasks.methods.bases.int8.method import quantization
from tests import tiny as small

pytest.importorskip("bitsandbytes")

SMALL = {}
BITS = 8
TOLERANCE = 0.05


def layers(tiny, **config):
    """A layer of the tiny model in 8 bits, and its weight before."""
    model, _ = checkpoints.load(tiny, quantization=quantization(Int8Config(**config)))
    return model.model.layers[0].mlp.up_proj, small.load(tiny).model.layers[0].mlp.up_proj.weight.detach()


def rounded(rows):
    """Rows as integers of ±127, and their scales."""
    scale = rows.abs().amax(dim=1, keepdim=True)
    return (rows * 127 / scale).round(), scale / 127


def inputs():
    """Activations in which one feature reaches 8."""
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    x[2, 7] = 8.0
    return x


def test_a_weight_is_kept_as_integers_by_the_largest_number_of_each_output(tiny):
    layer, weight = layers(tiny)
    expected, _ = rounded(weight.half().float())
    assert (layer.weight.data.float() - expected).abs().max() <= 1
    assert torch.equal(layer.weight.data, expected.to(torch.int8)) or (layer.weight.data != expected).sum() < 5


@pytest.mark.parametrize("threshold", [6.0, 9.0])
def test_a_layer_is_the_equation(tiny, threshold):
    layer, weight = layers(tiny, threshold=threshold)
    x = inputs().half().float()
    outliers = (x.abs() >= threshold).any(dim=0)
    assert outliers.sum() == (1 if threshold == 6.0 else 0)
    W8_OI, scale_O1 = rounded(weight.half().float())
    X8, scale_B1 = rounded(x * (x.abs() < threshold))
    X8[:, outliers] = 0
    integers = (X8 @ W8_OI.T) * scale_B1 * scale_O1.T
    expected = integers + x[:, outliers] @ (W8_OI * scale_O1)[:, outliers].T
    torch.testing.assert_close(layer(inputs()), expected, rtol=0, atol=3e-3)


def test_an_outlier_spoils_its_row_where_the_threshold_is_above_it(tiny):
    def error(threshold):
        layer, weight = layers(tiny, threshold=threshold)
        return (layer(inputs()) - inputs() @ weight.T)[2].norm().item()

    assert error(6.0) < 0.8 * error(9.0)


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(int8._bitsandbytes, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"base 'int8' needs bitsandbytes, .*: pip install -e '\.\[quantize\]'\."):
        quantization(Int8Config())


@pytest.mark.parametrize("wrong", [{"threshold": -1}, {"bits": 8}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Int8Config(**wrong)
