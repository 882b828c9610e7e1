"""LoKr adds one Kronecker product, whose second factor may be of low rank."""

import pytest
import torch
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.lokr.config import LokrConfig
from tasks.methods.adapters.lokr.method import attach
from tests import tiny as small

SMALL = {"rank": 2, "alpha": 6, "factor": 2}


def trainable(model, config):
    """Four numbers of C, and those of D's two factors, for every layer."""
    sizes = [(m.out_features // 2, m.in_features // 2) for m in surgery.linears(model, config.targets).values()]
    return sum(4 + config.rank * (p + q) for p, q in sizes)


def layer(**config):
    """The first q_proj, 48 x 48 with a bias, with random factors, and they by name."""
    torch.manual_seed(0)
    attached = attach(small.qwen2(), LokrConfig(**SMALL | config), Start()).get_base_model()
    q_proj = attached.model.layers[0].self_attn.q_proj
    factors = {name.split(".")[0]: p for name, p in q_proj.named_parameters() if "lokr" in name}
    for factor in factors.values():
        torch.nn.init.normal_(factor)
    return q_proj, {name.removeprefix("lokr_"): factor for name, factor in factors.items()}


@pytest.mark.parametrize(
    ("config", "sides"),
    [
        ({}, {"w1": (2, 2), "w2_a": (24, 2), "w2_b": (2, 24)}),
        ({"rank": 12, "alpha": 36}, {"w1": (2, 2), "w2": (24, 24)}),
        ({"factor": -1}, {"w1": (6, 6), "w2_a": (8, 2), "w2_b": (2, 8)}),
        ({"factor": 12, "decompose_both": True}, {"w1_a": (12, 2), "w1_b": (2, 12), "w2": (4, 4)}),
    ],
    ids=["low rank", "full", "near sides", "both"],
)
def test_a_layer_is_the_equation(config, sides):
    q_proj, factors = layer(**config)
    assert {name: tuple(factor.shape) for name, factor in factors.items()} == sides
    c, d = (factors[w] if w in factors else factors[f"{w}_a"] @ factors[f"{w}_b"] for w in ("w1", "w2"))
    x = torch.randn(5, 48)
    expected = q_proj.base_layer(x) + 3.0 * F.linear(x, torch.kron(c, d))
    torch.testing.assert_close(q_proj(x), expected, rtol=1e-4, atol=1e-3)


def test_a_rank_above_a_layer_is_refused(tiny):
    with pytest.raises(ValueError, match=r"rank 33 is above model\.layers\."):
        attach(small.load(tiny), LokrConfig(rank=33), Start())
