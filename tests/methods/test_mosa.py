"""MoSA puts a block beside every MLP whose matrix trains in parts; what is common with a LoRA's parts is in `test_mosl.py`."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.core.weights.row import Row
from tasks.engine.training import compose
from tasks.methods.adapters.mosa.config import MosaConfig
from tasks.methods.adapters.mosa.method import attach
from tests import tiny as small
from tests.methods import contract

SMALL = {"rank": 4, "parts": 2, "scale": 3.0, "dropout": 0.0}
STEPS = 12


def trainable(model, config):
    """2 d b + b + E d + d for every layer: two matrices, a bias of D, one of U for each part, and the norm."""
    d, b = model.config.hidden_size, config.rank
    return (2 * d * b + b + config.parts * d + d) * len(surgery.decoder_layers(model))


def branches(model):
    return [layer.mosa.branch for layer in surgery.decoder_layers(model)]


def filled(model, **settings):
    """A model whose blocks are no longer zero."""
    attach(model, MosaConfig(**SMALL | settings), Start())
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("part", [None, 0, 1])
@torch.no_grad()
def test_a_layer_is_the_equation(part):
    model = small.qwen2().eval()
    plain, outputs, streams = copy.deepcopy(model), [], []
    filled(model)
    layer = surgery.decoder_layers(model)[0]
    for block in branches(model):
        block.pair.up.draws.part = lambda *_: part
    layer.post_attention_layernorm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    for one in (plain, model):
        surgery.decoder_layers(one)[0].register_forward_hook(lambda _, inputs, output: outputs.append(output))
        one(input_ids=torch.tensor([[3, 1, 4, 1, 5]]))
    block = layer.mosa.branch
    down, up = block.pair.down, block.pair.up
    inner = F.gelu(block.norm(streams[0]) @ down.W_OI.T + down.b_O)
    expected = 3.0 * (inner @ up.weight(part).T + up.offset(part))
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(outputs[1] - outputs[0], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_mean_of_a_blocks_outputs_over_its_parts_is_the_output_that_is_served():
    (block, *_) = branches(filled(small.qwen2(), parts=3).eval())
    x = torch.randn(2, 5, 48)
    served, apart = block(x), []
    for part in range(3):
        block.pair.up.draws.part = lambda *_, part=part: part
        apart.append(block(x))
    torch.testing.assert_close(torch.stack(apart).mean(dim=0), served)
    assert not torch.allclose(apart[0], apart[1])


def test_blocks_draw_apart_from_one_another(tiny):
    model = filled(small.load(tiny), parts=7)
    model.passage.row = Row(torch.zeros(1), training=True)
    drawn = [block.pair.up.draws.part(block.pair.up.name, 7) for block in branches(model)]
    assert len({block.pair.up.name for block in branches(model)}) == len(drawn)
    assert not torch.equal(*(block.pair.up.part_OI for block in branches(model)[:2]))


def test_a_bias_of_a_part_that_was_not_drawn_has_no_gradient(tiny):
    parts = replace(contract.composition(), adapter=contract.part("adapters", "mosa", parts=4))
    attached, _ = contract.composed(small.load(tiny), parts)
    attached.model.train()(**contract.batch())["loss"].backward()
    for block in branches(attached.model):
        for vectors in (block.pair.up.bias, block.pair.up.change):
            assert sum(vector.grad is not None for vector in vectors) == 1
        assert block.norm.weight.requires_grad
    assert compose.groups(attached, parts)


def test_one_part_is_the_plain_block():
    (block, *_) = branches(filled(small.qwen2(), parts=1).train())
    (norm, *_) = (layer.post_attention_layernorm for layer in surgery.decoder_layers(small.qwen2()))
    down, up, x = block.pair.down, block.pair.up, torch.randn(2, 5, 48)
    normed = x / (x.square().mean(dim=-1, keepdim=True) + norm.variance_epsilon).sqrt() * block.norm.weight
    inner = F.gelu(normed @ down.W_OI.T + down.b_O)
    torch.testing.assert_close(block(x), SMALL["scale"] * (inner @ up.W_OI.T + up.b_O), rtol=1e-4, atol=1e-5)
    assert {type(matrix).__name__ for matrix in (block.pair.down, block.pair.up)} == {"Dense"}
    assert not any(name.endswith("part_OI") for name, _ in block.named_buffers())


def test_a_rank_above_the_width_is_refused(tiny):
    with pytest.raises(ValueError, match="rank 65 is above the model's width: take at most 64"):
        attach(small.load(tiny), MosaConfig(rank=65), Start())


def test_biases_begin_at_zero_and_the_norm_as_that_before_the_mlp():
    model = small.qwen2()
    with torch.no_grad():
        for layer in surgery.decoder_layers(model):
            nn.init.uniform_(layer.post_attention_layernorm.weight)
    attach(model, MosaConfig(**SMALL), Start())
    for layer in surgery.decoder_layers(model):
        block = layer.mosa.branch
        assert torch.equal(block.norm.weight, layer.post_attention_layernorm.weight)
        assert not any(bias.any() for bias in block.pair.up.bias)
        assert not block.pair.down.b_O.any()
