"""LeMo computes MLPs whole, and sends gradients back through few of their columns.

Output and gradient are held against numbers of the authors' `PrunedLlamaMLPFunction` (`data/lemo.json`).
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.weights import surgery
from tasks.methods.sparsifiers.lemo.mlp import PrunedMLP, _Pruned
from tests.methods import deep
from tests.methods.official import frozen, same, wave


class Gated(nn.Module):
    """An MLP as the authors' function takes it."""

    def __init__(self, gate, up, down):
        super().__init__()
        for name, weight in (("gate_proj", gate), ("up_proj", up), ("down_proj", down)):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            self.add_module(name, linear)
        self.act_fn = nn.SiLU()

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.0])
def test_the_mlp_and_its_gradient_are_the_official_ones(ratio):
    expected = frozen("lemo")[str(ratio)]
    mlp = Gated(wave(12, 5, phase=0.3), wave(12, 5, phase=0.6), wave(5, 12, phase=0.9)).train()
    x = wave(1, 6, 5, phase=1.0).requires_grad_()
    y = PrunedMLP(mlp, 1 - ratio)(x)
    same(y.flatten(), expected["output"])
    (y * wave(1, 6, 5, phase=5.0)).sum().backward()
    same(x.grad.flatten(), expected["gradient"])


def test_the_gradient_is_that_of_an_mlp_of_the_kept_columns_alone():
    torch.manual_seed(4)
    gate, up, down = torch.randn(12, 5), torch.randn(12, 5), torch.randn(5, 12)
    mlp, x = Gated(gate, up, down).train(), torch.randn(2, 3, 5, requires_grad=True)
    pruned, weigh = PrunedMLP(mlp, 0.4), torch.randn(2, 3, 5)
    y = pruned(x)
    assert torch.equal(y, mlp(x)), "forward nothing is left out"
    (found,) = torch.autograd.grad((y * weigh).sum(), x)
    x.requires_grad_(False)
    norms = F.silu(x @ gate.T).flatten(0, 1).norm(dim=0) + (x @ up.T).flatten(0, 1).norm(dim=0)
    kept = sorted(range(12), key=lambda column: -float(norms[column]))[:4]
    x.requires_grad_(True)
    (expected,) = torch.autograd.grad((Gated(gate[kept], up[kept], down[:, kept])(x) * weigh).sum(), x)
    torch.testing.assert_close(found, expected)


def test_with_all_columns_the_gradient_is_exact_and_biases_enter():
    model = deep.llama(2, mlp_bias=True).train()
    mlp = surgery.decoder_layers(model)[0].mlp.requires_grad_(False)
    x = torch.randn(1, 7, 32, requires_grad=True)
    pairs = [(y, torch.autograd.grad(y.square().sum(), x)[0]) for y in (mlp(x), _Pruned.apply(x, mlp, 48))]
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected)


def test_under_autocast_weights_in_fp32_meet_states_in_bf16():
    mlp = surgery.decoder_layers(deep.llama(2))[0].mlp.requires_grad_(False).train()
    x, found = torch.randn(1, 7, 32, requires_grad=True), []
    for function in (mlp, lambda x: _Pruned.apply(x, mlp, 48)):
        with torch.autocast("cpu", torch.bfloat16):
            y = function(x)
        assert y.dtype is torch.bfloat16
        found.append(torch.autograd.grad(y.float().square().sum(), x)[0])
    torch.testing.assert_close(found[1], found[0], rtol=0.1, atol=0.05 * float(found[0].abs().max()))
