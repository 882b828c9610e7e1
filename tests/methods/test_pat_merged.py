"""The model that PAT leaves computes what the masked one did, and goes wherever a tuned model goes.

Its weights are held against those of the authors' script where v is 1 (`data/pat.json`).
"""

from dataclasses import replace

import gguf
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.core.weights.merging import Merge
from tasks.engine.training import store
from tasks.io.weights import checkpoints, compressed, merges, models, sparse_deltas
from tasks.io.weights.merges import Expert
from tasks.methods.adapters.pat import method as pat
from tasks.methods.adapters.pat.config import PatConfig
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 3, "alpha": 6, "dropout": 0.0, "operator_rank": 4}
SIZES = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def drop(model, steps):
    """Come to the milestone of a training of so many steps, which is the second one."""
    pat.on_step(Moment(1, steps, 0, model, None, None, None, None), PatConfig())


def test_merged_weights_are_those_of_the_official_script_where_v_is_1():
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=5,
            hidden_size=8,
            intermediate_size=6,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    ).double()
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    block = "model.layers.0."
    phases = {"lm_head": 2.0} | {
        block + name: 3.0 + number
        for number, name in enumerate(
            (
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
            )
        )
    }
    gains = {"model.norm": 1.0, block + "input_layernorm": 10.0, block + "post_attention_layernorm": 11.0}
    weights = {f"{name}.weight": wave(*shapes[f"{name}.weight"], phase=phase) for name, phase in phases.items()}
    weights |= {f"{name}.weight": 1 + 0.1 * wave(8, phase=phase) for name, phase in gains.items()}
    model.load_state_dict(weights | {"model.embed_tokens.weight": wave(5, 8)})
    pat.attach(model, PatConfig(width=6, rank=2, alpha=4, operator_rank=2), Start())
    adapted = surgery.layers_of(model, pat.PatLinear)
    operators = dict(zip((12.0, 13.0, 14.0), pat.operators(model), strict=True))
    for phase, operator in operators.items():
        operator.L0_SH.data, operator.L1_HS.data = wave(2, 8, phase=phase) / 4, wave(8, 2, phase=phase + 0.5) / 4
    for name, phase in (("self_attn.q_proj", 20.0), ("mlp.down_proj", 21.0)):
        layer = adapted[block + name]
        layer.A_RI.data = wave(*layer.A_RI.shape, phase=phase)
        layer.B_OR.data = wave(*layer.B_OR.shape, phase=phase + 0.5)
    pat.mask_of(model).w_H.data = wave(8, phase=1.5)
    drop(model, 3)
    merged = pat.merge(model)
    assert merged.config.hidden_size == frozen("pat")["merged_hidden_size"]
    same(dict(merged.state_dict()), frozen("pat")["merged"])


def llama(**config):
    """A LLaMA with grouped heads that are wider than its hidden size says, biases everywhere, and a tied head."""
    rest = {
        "num_key_value_heads": 2,
        "head_dim": 32,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    }
    return LlamaForCausalLM(LlamaConfig(**SIZES | rest | config))


def qwen3():
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True))


def tied_qwen2():
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True))


MAKERS = {
    "llama": lambda: llama(attention_bias=False, mlp_bias=False, tie_word_embeddings=False),
    "llama, biases, tied": llama,
    "llama, a large eps": lambda: llama(rms_norm_eps=0.01),
    "qwen2": small.qwen2,
    "qwen2, tied": tied_qwen2,
    "qwen3, tied": qwen3,
}


def masked(make, **config):
    """A model of random weights whose channels were dropped, after a training that moved everything."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    pat.attach(model, PatConfig(**SMALL | config), Start())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
    drop(model, 2)
    return model


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_narrower_model_computes_what_the_masked_one_does_and_opens_without_us(make, tmp_path):
    model = masked(make)
    hidden, heads = model.config.hidden_size, model.config.num_attention_heads
    width = model.model.layers[0].self_attn.q_proj.base.out_features // heads
    expected = contract.losses(model)
    merged = pat.merge(model)
    torch.testing.assert_close(contract.losses(merged), expected, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(contract.losses(opened), contract.losses(merged))
    assert opened.config.hidden_size == 3 * hidden // 4
    assert opened.config.head_dim == width
    assert not opened.config.tie_word_embeddings
    assert opened.config.model_type == ("qwen3" if make is qwen3 else "llama")
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    torch.testing.assert_close(opened(ids).logits, _plain_logits(make, ids), rtol=1e-4, atol=1e-4)


def _plain_logits(make, ids):
    """The logits of the masked model by transformers' own attention."""
    model = masked(make)
    model.set_attn_implementation("sdpa")
    return model(ids).logits


def test_without_the_new_eps_the_narrower_model_would_compute_another_function():
    model = masked(MAKERS["llama, a large eps"])
    expected, eps = contract.losses(model), model.config.rms_norm_eps
    merged = pat.merge(model)
    for module in merged.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = eps
    assert (contract.losses(merged) - expected).abs().max() > 1e-3


def test_dropped_channels_are_0_in_every_layer(tiny):
    model = masked(lambda: small.load(tiny))
    contract.losses(model)  # which attends within sequences from now on
    kept_H = pat.mask_of(model).kept_H
    assert 0 < kept_H.sum() < len(kept_H)
    with torch.no_grad():
        states = model.get_decoder()(torch.tensor([[3, 1, 4]]), output_hidden_states=True).hidden_states
    assert len(states) == model.config.num_hidden_layers + 1
    for state in states:
        assert state[..., ~kept_H].abs().max() == 0
        assert state[..., kept_H].abs().min() > 0


@pytest.mark.parametrize("kind", ["learned", "fixed", "before"])
def test_a_saved_adapter_loads_measures_merges_and_is_written_as_gguf(tiny, tmp_path, kind):
    """A model of another width goes through what reads a tuned model."""
    adapter = contract.part("adapters", "pat", **SMALL, mask=kind)
    parts = replace(contract.composition(), adapter=adapter)
    attached, optimizer = contract.composed(checkpoints.load(tiny)[0], parts)
    contract.steps(attached, optimizer, parts)
    expected = contract.losses(attached.model)
    store.save(attached, parts, None, tmp_path / "saved")
    loaded, tokenizer = models.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), expected, rtol=1e-4, atol=1e-4)
    compressor = contract.part("compressors", "gguf", type="f32")
    compressor.method.write(loaded, tokenizer, tmp_path, compressor.config)
    back, _ = compressor.method.read(tmp_path, "float32", "cpu")
    torch.testing.assert_close(contract.losses(back), expected, rtol=1e-4, atol=1e-4)
    merges.write(tmp_path / "merged", tiny, [Expert(tmp_path / "saved")], Merge())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(contract.losses(plain), contract.losses(loaded))


def test_a_narrowed_qwen2_is_a_llama_whose_biases_are_in_its_gguf(tiny, tmp_path):
    merged = pat.merge(masked(small.qwen2))
    compressor = contract.part("compressors", "gguf", type="f32")
    compressor.method.write(merged, checkpoints.load_tokenizer(tiny), tmp_path, compressor.config)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert tensors["blk.0.attn_output.bias"].data.tolist() == [0.0] * merged.config.hidden_size
    back, _ = compressor.method.read(tmp_path, "float32", "cpu")
    expected = dict(merged.named_parameters())
    assert {name for name, _ in back.named_parameters()} == expected.keys()
    for name, tensor in back.named_parameters():
        assert torch.equal(tensor, expected[name]), name


def test_a_narrower_model_is_no_change_of_its_base(tiny, tmp_path):
    parts = contract.composition(adapters="pat")
    attached, optimizer = contract.composed(checkpoints.load(tiny)[0], parts)
    contract.steps(attached, optimizer, parts)
    store.save(attached, parts, None, tmp_path / "saved")
    with pytest.raises(ValueError, match=r"one that makes the model narrower is written alone, by `linear`"):
        merges.write(tmp_path / "merged", tiny, [Expert(tmp_path / "saved")] * 2, Merge())
    with pytest.raises(ValueError, match=r"compressors take a LoRA\. A LoRA leaves every weight as wide as it is"):
        compressed.read_delta(tmp_path / "saved", tiny)
    whole = tmp_path / "whole"
    store.save(attached, parts, checkpoints.load_tokenizer(tiny), whole, standalone=True)
    with pytest.raises(ValueError, match="does not have one shape in both models"):
        sparse_deltas.write(tmp_path / "delta.safetensors", whole, tiny)


def test_what_has_dropped_no_channels_yet_has_no_narrower_model(tiny):
    model = contract.attached(contract.part("adapters", "pat"), contract.model("llama", tiny))
    with pytest.raises(ValueError, match=r"no channel was dropped yet.*Train to the milestone first"):
        pat.merge(model)
