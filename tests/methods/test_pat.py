"""PAT tunes a model and makes it narrower: its mask, operators and losses, and what it refuses.

Mask, operator and losses are held against numbers of the authors' code (`data/pat.json`); `test_pat_merged.py` has the merged model.
"""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flows.experiments import recipes
from tasks import methods
from tasks.core.training import Moment, Start
from tasks.core.weights import surgery
from tasks.engine.training import compose
from tasks.io import config_file
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
            r"width 33 is not a multiple of the model's 4 attention heads, as transformers asks of a LLaMA: take 32 or 36\.",
        ),
        ({"width": 2}, r"width 2 is not a multiple of the model's 4 attention heads, .*: take 4\."),
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
