"""Bi-AdaptFormer puts a block of 2^b values beside every MLP, which reads the stream before the norm."""

import copy

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Glm4Config,
    Glm4ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    MiniCPM3Config,
    MiniCPM3ForCausalLM,
    MiniMaxConfig,
    MiniMaxForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from tasks.core.training import Start
from tasks.core.weights import levels, surgery
from tasks.methods.adapters.biadaptformer.config import BiadaptformerConfig
from tasks.methods.adapters.biadaptformer.method import attach
from tests import tiny as small
from tests.methods import contract

SMALL = {"rank": 4, "scale": 1000.0, "dropout": 0.0}


def trainable(model, config):
    """Two matrices of r x hidden for every layer."""
    return 2 * config.rank * model.config.hidden_size * len(surgery.decoder_layers(model))


@pytest.mark.parametrize("bits", [1, 4, 32])
@pytest.mark.parametrize("make", [small.qwen2, small.gpt2])
@torch.no_grad()
def test_a_layer_is_the_equation(make, bits):
    """h = x + MLP(norm(x)) + s B ReLU(A x), x with attention in it."""
    model = make().eval()
    plain = copy.deepcopy(model)
    attach(model, BiadaptformerConfig(**SMALL | {"bits": bits}), Start())
    layer = surgery.decoder_layers(model)[0]
    streams = []
    norm = getattr(layer, "ln_2", None) or layer.post_attention_layernorm
    norm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    outputs = []
    for one in (plain, model):
        surgery.decoder_layers(one)[0].register_forward_hook(
            lambda _, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        )
        one(input_ids=torch.tensor([[3, 1, 4, 1, 5]]))
    branch = layer.biadaptformer.branch
    a, b = (m if bits == 32 else levels.quantised(m, bits) for m in (branch.A_RI, branch.B_OR))
    expected = 1000.0 * torch.relu(streams[0] @ a.T) @ b.T
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(outputs[1] - outputs[0], expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_copy_of_a_model_reads_its_own_stream():
    model = attach(small.qwen2(), BiadaptformerConfig(**SMALL), Start())
    clone = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.zero_()
    ids = torch.tensor([[3, 1, 4]])
    fresh = attach(small.qwen2(), BiadaptformerConfig(**SMALL), Start())
    fresh.load_state_dict(clone.state_dict())
    torch.testing.assert_close(clone.eval()(input_ids=ids).logits, fresh.eval()(input_ids=ids).logits)


@torch.no_grad()
def test_generation_with_a_cache_is_that_without():
    model = attach(small.qwen2(), BiadaptformerConfig(**SMALL), Start()).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with_cache, without = (
        model.generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=0, use_cache=cached)
        for cached in (True, False)
    )
    assert with_cache.tolist() == without.tolist()


def test_a_rank_above_the_width_is_refused():
    with pytest.raises(ValueError, match=r"rank 49 is above the model's width: take at most 48\."):
        attach(small.qwen2(), BiadaptformerConfig(rank=49), Start())


SIZES = {"vocab_size": 259, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (
            lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, **HEADS, head_dim=12)),
            "Gemma2DecoderLayer has pre_feedforward_layernorm, post_feedforward_layernorm, and",
        ),
        (
            lambda: Glm4ForCausalLM(Glm4Config(**SIZES, **HEADS, head_dim=12)),
            "Glm4DecoderLayer has post_mlp_layernorm, and",
        ),
        (
            lambda: GraniteForCausalLM(GraniteConfig(**SIZES, **HEADS, residual_multiplier=0.2)),
            r"GraniteDecoderLayer has residual_multiplier 0\.2, and",
        ),
        (
            lambda: MiniCPM3ForCausalLM(MiniCPM3Config(**SIZES, **HEADS)),
            r"MiniCPM3DecoderLayer has residual_scale 0\.989949, and",
        ),
        (
            lambda: HyperCLOVAXForCausalLM(HyperCLOVAXConfig(**SIZES, **HEADS, head_dim=12)),
            r"HyperCLOVAXDecoderLayer has post_norm2, and",
        ),
        (
            lambda: MiniMaxForCausalLM(MiniMaxConfig(**SIZES, **HEADS, mlp_beta_factor=0.5, num_local_experts=2)),
            r"MiniMaxDecoderLayer has mlp_beta_factor 0\.5, and",
        ),
        (
            lambda: StableLmForCausalLM(StableLmConfig(**SIZES, **HEADS, use_parallel_residual=True)),
            r"StableLmDecoderLayer has no post_attention_layernorm or ln_2, and",
        ),
    ],
    ids=["gemma2", "glm4", "granite", "minicpm3", "hyperclovax", "minimax", "stablelm in parallel"],
)
def test_a_layer_that_changes_what_its_mlp_gives_is_refused(make, found):
    with pytest.raises(ValueError, match=found):
        attach(make(), BiadaptformerConfig(rank=4), Start())


def test_a_layer_that_takes_what_its_mlp_gives_as_it_is_has_a_block():
    model = GraniteForCausalLM(GraniteConfig(**SIZES, **HEADS, residual_multiplier=1.0))
    assert attach(model, BiadaptformerConfig(rank=4), Start()).model.layers[0].biadaptformer


def test_weights_of_the_mlp_stay_frozen(tiny):
    model = attach(contract.model("llama", tiny), BiadaptformerConfig(**SMALL), Start())
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-3] for name in names} == {"biadaptformer"}


@torch.no_grad()
def test_a_mixture_that_returns_the_scores_of_its_router_is_adapted():
    model = small.family("gpt_oss", **small.ALONE["gpt_oss"])
    plain, ids = copy.deepcopy(model), torch.tensor([[3, 1, 4, 1, 5]])
    attach(model, BiadaptformerConfig(**SMALL), Start())
    mlps, streams = [one.model.layers[0].mlp for one in (plain, model)], []
    outputs = []
    for mlp in mlps:
        mlp.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    layer = model.model.layers[0]
    layer.post_attention_layernorm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    for one in (plain, model):
        one.eval()(input_ids=ids)
    expected = layer.biadaptformer.branch(streams[0])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(outputs[1][0] - outputs[0][0], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(outputs[1][1], outputs[0][1])
