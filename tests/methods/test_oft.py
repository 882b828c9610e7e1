"""OFT turns a layer's inputs by Cayley's rotation of blocks, and the angles between neurons stay."""

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.oft.config import OftConfig
from tasks.methods.adapters.oft.method import attach
from tests import tiny as small

SMALL = {"block_size": 8}
TOLERANCE = 1e-6


def trainable(model, params):
    """The upper triangle of a skew-symmetric block, for every block of every layer."""
    triangle = params.block_size * (params.block_size - 1) // 2
    layers = surgery.linears(model, params.targets).values()
    return sum(triangle * (1 if params.block_share else m.in_features // params.block_size) for m in layers)


def layer(scale=0.3, **config):
    """A layer with a bias, turned by random angles."""
    torch.manual_seed(0)
    found = (
        attach(small.qwen2(), OftConfig(**SMALL | config), Start()).get_base_model().model.layers[0].self_attn.q_proj
    )
    torch.nn.init.normal_(found.oft_R["default"].weight, std=scale)
    return found


def skew(layer):
    """Q of every block."""
    triangles = layer.oft_R["default"].weight
    blocks = []
    for triangle in triangles:
        Q = torch.zeros(8, 8)
        Q[torch.triu_indices(8, 8, 1).unbind()] = triangle
        blocks.append(Q - Q.T)
    return blocks


def rotation(layer, count=6):
    """R = diag((I − Q)(I + Q)⁻¹ …) by the textbook."""
    blocks = skew(layer)
    eye = torch.eye(8)
    turned = [(eye - Q) @ torch.linalg.inv(eye + Q) for Q in blocks]
    return torch.block_diag(*(turned * (count // len(turned))))


@pytest.mark.parametrize("block_share", [False, True])
def test_a_layer_is_the_equation(block_share):
    found = layer(block_share=block_share)
    R, x = rotation(found), torch.randn(5, 48)
    assert not torch.allclose(R, torch.eye(48), atol=0.1)
    expected = x @ (found.base_layer.weight @ R.T).T + found.base_layer.bias
    torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-4)


def weight(layer):
    """The turned weight, read off the layer's answers to unit vectors."""
    return (layer(torch.eye(48)) - layer.base_layer.bias).T


def test_norms_of_neurons_and_angles_between_them_stay():
    found = layer(scale=1.0)
    turned, start = weight(found), found.base_layer.weight
    torch.testing.assert_close(turned @ turned.T, start @ start.T, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(turned, start, atol=1e-2)


def test_blocks_turn_their_own_inputs_alone():
    found = layer()
    with torch.no_grad():
        found.oft_R["default"].weight[1:] = 0
    torch.testing.assert_close(weight(found)[:, 8:], found.base_layer.weight[:, 8:])


def test_the_series_is_nearly_the_rotation_backwards():
    """OFTv2: (I + Q)(I − Q)⁻¹ ≈ I + 2 Q + 2 Q² + 2 Q³ + Q⁴."""
    found = layer(scale=0.05, neumann=True)
    R = found.oft_R["default"].get_weight()
    terms = [torch.eye(8) + 2 * Q + 2 * Q @ Q + 2 * Q @ Q @ Q + Q @ Q @ Q @ Q for Q in skew(found)]
    torch.testing.assert_close(R, torch.block_diag(*terms))
    torch.testing.assert_close(R, rotation(found).T, rtol=0, atol=0.02)
    assert not torch.allclose(R @ R.T, torch.eye(48), atol=1e-5)


def test_coft_keeps_every_block_near_the_identity():
    found = layer(eps=1e-3)
    found(torch.randn(5, 48))
    norms = [Q.norm().item() for Q in skew(found)]
    assert norms == pytest.approx([1e-3 / 6**0.5] * 6, rel=1e-3)


def test_a_block_that_does_not_divide_a_layer_is_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"block_size 48 does not divide the 64 inputs of .*q_proj\."):
        attach(small.load(tiny), OftConfig(block_size=48), Start())


@pytest.mark.parametrize("wrong", [{"block_size": 1}, {"eps": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OftConfig(**wrong)
