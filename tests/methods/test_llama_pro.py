"""LLaMA Pro copies the top layer of each of k equal groups, and trains the copies alone."""

from itertools import pairwise

import pytest
import torch
from transformers import MptConfig, MptForCausalLM

from tasks.core.weights import surgery
from tasks.methods.expanders.llama_pro.config import LlamaProConfig
from tasks.methods.expanders.llama_pro.method import expand, uniform
from tests import tiny as small
from tests.methods import contract, deep

SMALL = {"layers": 1}


def layer_of(model):
    return sum(parameter.numel() for parameter in surgery.decoder_layers(model)[0].parameters())


def trainable(model, params):
    """k layers."""
    return params.layers * layer_of(model)


def grown(layers, depth=6):
    model = deep.llama(depth)
    return model, expand(model, LlamaProConfig(layers=layers), contract.probe(), 0)


def test_the_top_layer_of_each_group_is_copied_as_in_the_papers_model():
    # 32 layers in 8 groups of 4: layers 3, 7, …, 31, counted from 0, and 40 layers afterwards.
    assert uniform(32, 8) == [3, 7, 11, 15, 19, 23, 27, 31]
    assert uniform(6, 3) == [1, 3, 5]
    assert uniform(6, 6) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("depth", "layers"), [(30, 4), (7, 3), (28, 8), (5, 4)])
def test_where_the_groups_cannot_be_equal_they_differ_by_one_layer(depth, layers):
    tops = [-1, *uniform(depth, layers)]
    sizes = {upper - lower for lower, upper in pairwise(tops)}
    assert tops[-1] == depth - 1
    assert sizes == {depth // layers, depth // layers + 1}


def test_a_copy_stands_directly_above_its_original():
    model, facts = grown(3)
    assert facts == {"copies": [2, 5, 8], "originals": [1, 3, 5], "importance": []}
    layers = surgery.decoder_layers(model)
    assert len(layers) == 9
    for copy, original in zip(facts["copies"], (1, 4, 7), strict=True):
        for (name, found), expected in zip(layers[copy].named_parameters(), layers[original].parameters(), strict=True):
            zero = name.startswith(("self_attn.o_proj", "mlp.down_proj"))
            assert torch.equal(found, torch.zeros_like(found) if zero else expected), name
            assert found.data_ptr() != expected.data_ptr()


def test_what_a_copy_of_gpt2_adds_is_zero_weights_and_biases():
    model = deep.gpt2()
    assert expand(model, LlamaProConfig(layers=1), contract.probe(), 0)["copies"] == [2]
    assert model.config.n_layer == 3
    assert [layer.attn.layer_idx for layer in model.transformer.h] == [0, 1, 2]
    original, copy = (dict(model.transformer.h[place].named_parameters()) for place in (1, 2))
    writes = {f"{part}.c_proj.{what}" for part in ("attn", "mlp") for what in ("weight", "bias")}
    assert {name for name, found in copy.items() if not found.any()} == writes
    assert all(torch.equal(copy[name], original[name]) for name in copy.keys() - writes)


def test_as_many_numbers_train_as_k_layers_have():
    model, _ = grown(2)
    trains = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trains == trainable(deep.llama(6), LlamaProConfig(layers=2))


def test_all_that_trains_learns_at_one_rate():
    parts = contract.composition(expanders="llama_pro")
    _, optimizer = contract.composed(deep.llama(6), parts)
    assert [group["name"] for group in optimizer.param_groups] == ["matrices", "vectors"]
    assert len({group["lr"] for group in optimizer.param_groups}) == 1


def test_more_copies_than_layers_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"layers=7 are to be copied, and LlamaForCausalLM has 6"):
        grown(7)


def test_a_model_of_other_layers_is_refused():
    blocks = MptForCausalLM(MptConfig(d_model=16, n_heads=2, n_layers=1, vocab_size=259))
    with pytest.raises(ValueError, match="MptForCausalLM keeps no list `layers`"):
        expand(blocks, LlamaProConfig(layers=1), contract.probe(), 0)
    model = deep.llama(2)
    surgery.decoder_layers(model)[1].mlp.down_proj = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"Layer 1 of LlamaForCausalLM has no linear layer mlp\.down_proj"):
        expand(model, LlamaProConfig(layers=1), contract.probe(), 0)
    assert len(surgery.decoder_layers(model)) == 2


def test_gemma4_whose_upper_layers_are_told_by_their_number_is_refused():
    kinds = ["sliding_attention", "full_attention"]
    sizes = {"head_dim": 8, "global_head_dim": 16, "sliding_window": 8, "num_kv_shared_layers": 0, "layer_types": kinds}
    embeds = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 128}
    model = small.family("gemma4_text", **sizes, **embeds)
    with pytest.raises(ValueError, match="Gemma4ForCausalLM is made for the number of its layers"):
        expand(model, LlamaProConfig(layers=1), contract.probe(), 0)
