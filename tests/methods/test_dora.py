"""DoRA is m (W + s B A) / |W + s B A|, its norm without a gradient."""

import pytest
import torch

from tasks.core.training import Start
from tasks.core.weights import surgery
from tasks.methods.adapters.dora.config import DoraConfig
from tasks.methods.adapters.dora.method import attach
from tests import tiny as small

SMALL = {"rank": 4, "alpha": 8, "dropout": 0.0}
TOLERANCE = 4e-6  # in bf16 that is one step of a loss: peft rounds the first magnitudes to the base's dtype


def trainable(model, params):
    """r (in + out) and a magnitude for every output."""
    layers = surgery.linears(model, params.targets).values()
    return sum(params.rank * (m.in_features + m.out_features) + m.out_features for m in layers)


@pytest.fixture
def layer():
    """A layer with a bias, whose B is not zero any more."""
    torch.manual_seed(0)
    model = attach(small.qwen2(), DoraConfig(**SMALL), Start())
    found = model.get_base_model().model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(found.lora_B["default"].weight)
    with torch.no_grad():
        found.lora_magnitude_vector["default"].weight.mul_(1.5)
    return found


def parts(layer):
    """m, W, A and B of an adapted layer."""
    adapted = (layer.lora_magnitude_vector, layer.lora_A, layer.lora_B)
    m_O, A_RI, B_OR = (dictionary["default"].weight for dictionary in adapted)
    return m_O, layer.base_layer.weight, A_RI, B_OR


def test_a_layer_is_the_equation(layer):
    m_O, W_OI, A_RI, B_OR = parts(layer)
    x = torch.randn(5, layer.in_features)
    V_OI = W_OI + 8 / 4 * B_OR @ A_RI
    weight_OI = m_O[:, None] * V_OI / V_OI.pow(2).sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(layer(x), x @ weight_OI.T + layer.base_layer.bias)


def test_no_gradient_flows_through_the_norm(layer):
    m_O, W_OI, A_RI, B_OR = parts(layer)
    x = torch.randn(5, layer.in_features)
    V_OI = W_OI + 8 / 4 * B_OR @ A_RI
    norm_O1 = V_OI.norm(dim=1, keepdim=True).detach()
    expected = torch.autograd.grad((x @ (m_O[:, None] * V_OI / norm_O1).T).sin().sum(), (m_O, A_RI, B_OR))
    found = torch.autograd.grad((layer(x) - layer.base_layer.bias).sin().sum(), (m_O, A_RI, B_OR))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_magnitudes_start_as_the_norms_of_the_weight():
    found = attach(small.qwen2(), DoraConfig(**SMALL), Start()).get_base_model().model.layers[0].mlp.up_proj
    m_O, W_OI, _, _ = parts(found)
    torch.testing.assert_close(m_O, W_OI.pow(2).sum(dim=1).sqrt())


def test_the_defaults_are_those_of_the_paper():
    """Table 1: 0.84 % of LLaMA-7B on q, k, v, up and down."""
    config = DoraConfig()
    assert (config.rank, config.alpha, config.dropout) == (32, 64, 0.05)
    model = llama_7b()
    chosen = config.model_copy(update={"targets": ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")})
    count = trainable(model, chosen)
    assert round(100 * count / (model.num_parameters() + count), 2) == 0.84


def llama_7b():
    """LLaMA-7B without its numbers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig())


def test_a_rank_above_a_layer_is_refused_by_its_name(tiny):
    with pytest.raises(ValueError, match=r"rank 33 is above .*k_proj, whose weight is 32 × 64: take at most 32\."):
        attach(small.load(tiny), DoraConfig(rank=33), Start())


def test_a_base_whose_scales_peft_would_lose_is_refused(tiny):
    pytest.importorskip("bitsandbytes")
    from tasks.io.weights import checkpoints
    from tasks.methods.bases.int8.config import Int8Config
    from tasks.methods.bases.int8.method import quantization

    model, _ = checkpoints.load(tiny, quantization=quantization(Int8Config()))
    with pytest.raises(ValueError, match=r"q_proj.weight is stored as torch.int8, whose scales peft loses on a CPU"):
        attach(model, DoraConfig(**SMALL), Start())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1}, {"use_dora": True}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DoraConfig(**wrong)
