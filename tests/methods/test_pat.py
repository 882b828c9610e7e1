"""PAT tunes a model and makes it narrower.

Mask, operator, losses and merged weights are held against numbers of the authors' code (`data/pat.json`), the merged model against the one with
its channels masked.
"""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from flows.experiments import recipes
from tasks import methods
from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.core.weights.merging import Merge
from tasks.engine.training import compose, store
from tasks.io import config_file
from tasks.io.weights import checkpoints, compressed, merges, models, sparse_deltas
from tasks.io.weights.merges import Expert
from tasks.methods.adapters.pat import method as pat
from tasks.methods.adapters.pat import narrow
from tasks.methods.adapters.pat.config import PatConfig
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 3, "alpha": 6, "dropout": 0.0, "operator_rank": 4}
PARAMS = Path(__file__).resolve().parents[2] / "params"
HIDDEN = 12
"""Of the numbers of the official code."""
SIZES = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def trainable(model, config):
    """(2 L + 1) (2 d S + d) + d and LoRA's R (in + out) of every linear layer, the head left out."""
    hidden = model.config.hidden_size
    operators = 2 * model.config.num_hidden_layers + 1
    lora = sum(config.rank * sum(layer.weight.shape) for layer in surgery.linears(model, "all-linear").values())
    return operators * (2 * hidden * config.operator_rank + hidden) + hidden + lora


def mask(kind="learned", width=9, hidden=HIDDEN):
    """A mask of 12 channels in fp64, with w as the official numbers have it."""
    kept_H = torch.arange(hidden) < (width if kind == "fixed" else 0)
    made = pat.Mask(PatConfig(mask=kind), kept_H, width, torch.zeros(0, dtype=torch.float64))
    if made.w_H is not None:
        made.w_H.data = wave(hidden)
    return made


def moment(model, step, steps):
    return Moment(step, steps, 0, model, None, None, None, None)


@pytest.mark.parametrize("milestone", [10_000, 35])
def test_the_mask_and_its_gradient_are_the_official_ones_until_channels_are_dropped(milestone):
    for step, expected in frozen("pat")["mask"][str(milestone)].items():
        if int(step) < milestone:
            made = mask()
            made.move_to(int(step), milestone)
            m_H = made()
            same(m_H, expected["M"], rtol=1e-5, atol=1e-6)
            if m_H.requires_grad:
                (m_H * wave(HIDDEN, phase=2.0)).sum().backward()
                same(made.w_H.grad, expected["gradient"], rtol=1e-5, atol=1e-5)
            else:
                assert not any(expected["gradient"]), step


def test_where_the_official_mask_is_soft_to_the_end_ours_is_0_and_1():
    """Of channels as far from 0 as w is when it is separated, both are the same within 1e-4."""
    made = mask(width=int((wave(HIDDEN) > 0).sum()))
    made.move_to(10_000, 10_000)
    m_H = made()
    assert m_H.tolist() == frozen("pat")["inference"] == (wave(HIDDEN) > 0).double().tolist()
    theirs_H = torch.tensor(frozen("pat")["mask"]["10000"]["10000"]["M"])
    far_H = wave(HIDDEN).abs() >= 0.25
    assert 0 < (theirs_H - m_H)[far_H].abs().max() < 1e-4


def test_a_fixed_mask_fades_as_the_official_one_until_its_channels_are_dropped():
    for step, expected in frozen("pat")["fixed"]["35"].items():
        made = mask("fixed")
        made.move_to(int(step), 35)
        same(made(), expected if int(step) < 35 else [1.0] * 9 + [0.0] * 3, rtol=1e-5, atol=1e-6)


def test_the_mask_is_1_at_the_start_and_as_the_paper_has_it_later():
    made = mask()
    made.w_H.data.zero_()
    assert made().tolist() == [1.0] * HIDDEN
    taus = {}
    for step in (0, 100, 5000):
        made.move_to(step, 10_000)
        taus[step] = round(made.tau, 1)
    assert taus == {0: 1.0, 100: 2.0, 5000: 13.3}


def test_an_operator_and_its_losses_are_the_official_ones():
    expected = frozen("pat")["layer"]
    made = mask()
    operator = pat.Operator(made, 200, torch.zeros(0, dtype=torch.float64))
    operator.L0_SH.data, operator.L1_HS.data = wave(200, HIDDEN) / 20, wave(HIDDEN, 200, phase=1.0) / 20
    operator.v_H.data = 1 + 0.1 * wave(HIDDEN, phase=3.0)
    made.move_to(10, 35)
    same(operator(wave(4, HIDDEN, phase=9.0)).flatten(), expected["y"], rtol=1e-5)
    same(operator.identity_loss(), expected["identity"])
    loss = made.penalty(PatConfig()) + operator.identity_loss()
    same(loss, expected["loss"])
    loss.backward()
    same(made.w_H.grad, expected["gradient of w"])
    same(operator.L0_SH.grad[0], expected["gradient of L0, first row"])


def test_the_losses_of_a_mask_without_channels_on_one_side_are_finite():
    made = mask()
    made.w_H.data.zero_()
    loss = made.penalty(PatConfig())
    assert loss.item() == pytest.approx(10 * 3 / 9 + 0.25)
    loss.backward()
    assert made.w_H.grad.isfinite().all()


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
    pat.on_step(moment(model, 1, 3), PatConfig(width=6))
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
    pat.on_step(moment(model, 1, 2), PatConfig())
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


def test_all_operators_share_one_mask(tiny):
    model = contract.attached(contract.part("adapters", "pat"), contract.model("llama", tiny))
    assert len({id(operator.mask.w_H) for operator in pat.operators(model)}) == 1
    assert [name for name, _ in model.named_parameters() if name.endswith("w_H")] == [
        "model.embed_tokens.operator.mask.w_H"
    ]
    assert len(list(pat.operators(model))) == 2 * model.config.num_hidden_layers + 1


def test_channels_are_dropped_at_the_milestone_and_their_choice_stays(tiny):
    model = contract.attached(contract.part("adapters", "pat"), contract.model("llama", tiny))
    mask, hidden = pat.mask_of(model), model.config.hidden_size
    config = PatConfig(milestone=0.5)
    for step in range(5):
        pat.on_step(moment(model, step, 10), config)
        assert not mask.kept_H.any()
        assert mask().min() > 0, "a model that is measured meanwhile has all its channels"
    mask.w_H.data = torch.arange(hidden).float()
    pat.on_step(moment(model, 5, 10), config)
    dropped = hidden - mask.width
    assert mask().tolist() == [0.0] * dropped + [1.0] * mask.width
    mask.w_H.data.neg_()
    pat.on_step(moment(model, 6, 10), config)
    assert mask().tolist() == [0.0] * dropped + [1.0] * mask.width
    assert pat.facts(model) == {"width": mask.width, "above_zero": 0}


def test_of_equal_channels_the_first_are_kept():
    assert pat.largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2).tolist() == [True, True, False, False]


def test_pruning_before_keeps_what_the_base_writes_most_to(tiny):
    model = small.load(tiny)
    hidden = model.config.hidden_size
    large = torch.arange(hidden) % 4 > 0
    with torch.no_grad():
        for rows_HX in (
            model.model.embed_tokens.weight.T,
            *(layer.weight for layer in surgery.linears(model, narrow.WRITERS).values()),
        ):
            rows_HX[~large] *= 0.1
    config = PatConfig(mask="before", operator_rank=0, rank=3)
    pat.attach(model, config, Start())
    assert torch.equal(pat.mask_of(model).kept_H, large)
    expected = contract.losses(model)
    assert pat.penalty(model, config).item() == 0
    names = {name.rpartition(".")[2] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {"A_RI", "B_OR"}
    torch.testing.assert_close(contract.losses(pat.merge(model)), expected, rtol=1e-4, atol=1e-4)


def test_the_mask_has_a_rate_of_its_own(tiny):
    adapter = contract.part("adapters", "pat", **SMALL, mask_rate=10)
    attached, _ = contract.composed(small.load(tiny), replace(contract.composition(), adapter=adapter))
    groups = compose.groups(attached, replace(contract.composition(), adapter=adapter))
    of_mask = [group for group in groups if pat.mask_of(attached.model).w_H in set(group.parameters)]
    assert [(group.rate, group.decay, len(group.parameters)) for group in of_mask] == [(10, False, 1)]


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


def test_a_training_of_one_step_is_refused(tiny):
    model = contract.attached(contract.part("adapters", "pat"), contract.model("llama", tiny))
    with pytest.raises(ValueError, match=r"the training has 1 step, and channels are dropped after the first"):
        pat.on_step(moment(model, 0, 1), PatConfig())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"width": 48}, r"width 48 is not below the model's 48 hidden channels: take at most 44\."),
        ({"width": 400}, r"width 400 is not below the model's 48 hidden channels: take at most 44\."),
        (
            {"width": 33},
            r"width 33 is no multiple of the model's 4 attention heads, as transformers asks of a LLaMA: take 32 or 36\.",
        ),
        ({"width": 2}, r"width 2 is no multiple of the model's 4 attention heads, .*: take 4\."),
        ({"operator_rank": 49}, r"operator_rank 49 is above the model's 48 hidden channels"),
        ({"rank": 25}, r"rank 25 is above model\.layers\.0\.self_attn\.k_proj"),
    ],
)
def test_a_width_or_a_rank_that_cannot_be_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        pat.attach(small.qwen2(), PatConfig(**SMALL | config), Start())


def test_a_model_that_cannot_be_narrowed_is_refused():
    with pytest.raises(ValueError, match=r"pat narrows LLaMA, Qwen2 and Qwen3 models, .* and this is a gpt2\."):
        pat.attach(small.gpt2(), PatConfig(), Start())
    sliding = SimpleNamespace(model_type="qwen2", use_sliding_window=True, hidden_size=8, num_attention_heads=2)
    with pytest.raises(ValueError, match=r"has no sliding window, and this one uses it"):
        narrow.kept_width(sliding, None)


def test_a_mask_by_the_weights_needs_their_numbers():
    model = small.qwen2()
    layer = model.model.layers[0].mlp.down_proj
    layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"down_proj is stored as torch\.int8, .* Use `base: none`"):
        pat.attach(model, PatConfig(**SMALL, mask="before"), Start())


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"mask": "random"},
        {"milestone": 1},
        {"milestone": 0},
        {"mask_rate": 0},
        {"rank": 0},
        {"operator_rank": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PatConfig(**wrong)


def test_the_sides_of_the_recipe_train_as_many_numbers():
    recipe = config_file.read(PARAMS / "compare/pat.yaml", recipes.Recipe)
    lab = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    lora = sum(sum(layer.weight.shape) for layer in surgery.linears(lab, "all-linear").values())
    counts = {}
    for name, changes in recipe.compositions.items():
        config = methods.spec("adapters", changes["adapter"]).config(**changes["methods"][changes["adapter"]])
        operators = 17 * 128 * (2 * config.operator_rank + 1) if getattr(config, "operator_rank", 0) else 0
        counts[name] = operators + config.rank * lora + (128 if getattr(config, "mask", "") == "learned" else 0)
    assert counts["pat"] == 148_096
    assert counts["before"] == counts["lora"] == 147_968
    assert all(math.isclose(count, counts["pat"], rel_tol=1e-3) for count in counts.values())
