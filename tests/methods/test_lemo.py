"""LeMo leaves blocks of tokens out of attention, keeps less for going backward, and refuses what it cannot be exact about."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tasks.core.weights import surgery
from tasks.core.weights.row import Passage
from tasks.engine.forward import use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.engine.training.allocations import saved_bytes
from tasks.io.weights import checkpoints
from tasks.methods.sparsifiers.lemo.attention import Draws, Elimination, block_map
from tasks.methods.sparsifiers.lemo.config import LemoConfig
from tasks.methods.sparsifiers.lemo.method import on_step, restore, shrunk, sparsify
from tests import tiny as small
from tests.methods import contract, deep
from tests.methods.test_sparsifier_contract import composed, over_lora

SMALL = {"block": 4, "first": 0}
ROW = collate([Pack(tuple(small.sequences(6, seed=3, longest=60)))])
EDGES = ROW["boundaries"].tolist()
LENGTH = EDGES[-1]


def lemo(model, **settings):
    """A model in training mode with a LoRA in attention and LeMo of these settings, and what was attached."""
    parts = replace(over_lora(), sparsifier=contract.part("sparsifiers", "lemo", **settings))
    attached, _ = composed(model.train(), parts)
    torch.manual_seed(1)
    for name, parameter in attached.trainable.items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return attached


def gradients(attached):
    """The loss of the row, and the gradient of all that trains."""
    loss = attached.model(**ROW)["loss"]
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in attached.trainable.values())]


def elimination(model, layer=2, **settings):
    """The elimination of a layer of a model that trains, and its attention."""
    use_packed_attention(model)
    attention = surgery.decoder_layers(model.train())[layer].self_attn
    return Elimination(attention, layer, LemoConfig(**SMALL | settings), Draws(0, Passage())), attention


# --- attention


@pytest.mark.parametrize("make", [deep.llama, small.qwen2])
@pytest.mark.parametrize(
    "settings", [{"keep": 1, "mlp_keep": 1}, {"block": 1000, "mlp_keep": 1}, {"keep": 1, "mlp_keep": 1, "block": 3}]
)
def test_with_nothing_left_out_it_is_plain_training_to_the_bit(make, settings):
    expected = gradients(composed_plainly(make()))
    assert all(torch.equal(*pair) for pair in zip(gradients(lemo(make(), **settings)), expected, strict=True))


def composed_plainly(model):
    attached = lemo(model, keep=1, mlp_keep=1)
    restore(attached.model)
    return attached


@pytest.mark.parametrize(
    ("make", "window"), [(deep.llama, None), (deep.qwen3, None), (deep.qwen3, 9)], ids=["llama", "qwen3", "window"]
)
@pytest.mark.parametrize("blocks", ["score", "exact", "random", "recent"])
def test_kept_tokens_attend_as_if_the_others_were_masked(make, window, blocks):
    model = make(**{"window": window} if window else {})
    forward, attention = elimination(model, blocks=blocks)
    torch.manual_seed(2)
    hidden = torch.randn(1, LENGTH, model.config.hidden_size)
    cos, sin = model.model.rotary_emb(hidden, ROW["position_ids"])
    with torch.no_grad():
        found, _ = forward(hidden, boundaries=ROW["boundaries"], position_embeddings=(cos, sin), attention_mask=None)
        kept_K, ends = forward.kept(hidden[0], EDGES)
        kept_T = torch.zeros(LENGTH, dtype=torch.bool).index_fill(0, kept_K, value=True)
        shape = (1, LENGTH, -1, attention.head_dim)
        norms = [getattr(attention, f"{side}_norm", nn.Identity()) for side in "qk"]
        q, k = (
            norm(project(hidden).view(shape)).transpose(1, 2)
            for norm, project in zip(norms, (attention.q_proj, attention.k_proj), strict=True)
        )
        v = attention.v_proj(hidden).view(shape).transpose(1, 2)
        sequence_T = torch.bucketize(torch.arange(LENGTH), ROW["boundaries"].long(), right=True)
        sees = (
            (sequence_T[:, None] == sequence_T)
            & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
            & torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1 - (window or LENGTH))
            & (kept_T | torch.eye(LENGTH, dtype=torch.bool))
        )
        mixed = F.scaled_dot_product_attention(
            *apply_rotary_pos_emb(q, k, cos, sin), v, attn_mask=sees, enable_gqa=True
        )
        expected = attention.o_proj(mixed.transpose(1, 2).reshape(1, LENGTH, -1))
    assert len(EDGES) == len(ends)
    assert len(kept_K) == ends[-1] < 0.7 * LENGTH
    torch.testing.assert_close(found[:, kept_T], expected[:, kept_T], rtol=1e-5, atol=1e-5)
    assert not found[:, ~kept_T].any()


@pytest.mark.parametrize(
    ("length", "keep", "stay"),
    [(1, 0.1, 1), (5, 0.4, 2), (8, 0.1, 2), (40, 0.4, 4), (40, 0.29, 2), (38, 0.4, 4), (40, 0.3, 3), (40, 1.0, 10)],
)
def test_so_many_blocks_stay_and_the_ends_are_among_them(length, keep, stay):
    forward, _ = elimination(deep.llama(), keep=keep)
    kept, ends = forward.kept(torch.randn(length, 32), [0, length])
    blocks = sorted({number // 4 for number in kept.tolist()})
    assert len(blocks) == stay
    assert {0, (length - 1) // 4} <= set(blocks)
    assert ends == [0, len(kept)]
    assert kept.tolist() == [number for number in range(length) if number // 4 in blocks], "whole blocks, in order"


@pytest.mark.parametrize("blocks", ["score", "exact", "recent"])
def test_a_sequence_keeps_in_a_pack_what_it_keeps_alone(blocks):
    forward, _ = elimination(deep.llama(), blocks=blocks)
    hidden = torch.randn(LENGTH, 32)
    together, ends = forward.kept(hidden, EDGES)
    alone = [forward.kept(hidden[start:end], [0, end - start])[0] + start for start, end in pairwise(EDGES)]
    assert torch.equal(together, torch.cat(alone))
    assert [after - before for before, after in pairwise(ends)] == [len(each) for each in alone]


def test_recent_blocks_are_the_last_ones():
    forward, _ = elimination(deep.llama(), blocks="recent")
    assert forward._blocks(torch.randn(40, 32), 10, 0) == [0, 7, 8, 9]


@pytest.mark.parametrize("blocks", ["score", "exact"])
def test_the_most_wanted_blocks_stay(blocks):
    forward, attention = elimination(deep.llama(), blocks=blocks)
    torch.manual_seed(5)
    hidden = torch.randn(80, 32)
    with torch.no_grad():
        wanted = block_map(attention, hidden, forward.config).sum(dim=0)
    kept = forward._blocks(hidden, 20, 0)
    assert len(kept) == 8
    assert min(wanted[number] for number in kept[1:-1]) > max(wanted[n] for n in range(1, 19) if n not in kept)


def test_draws_are_of_seed_step_layer_look_and_sequence():
    model = deep.llama()
    forward, _ = elimination(model, blocks="random", keep=0.5)

    def drawn(sequence=0):
        return tuple(forward._blocks(torch.randn(80, 32), 20, sequence))

    first = drawn()
    assert drawn() == first
    others = {drawn(sequence=1)}
    for holder, name, value in (
        (forward.draws, "step", 1),
        (forward.draws, "seed", 1),
        (forward, "layer", 3),
        (forward.draws.passage, "row", SimpleNamespace(look=1)),
    ):
        before = getattr(holder, name)
        setattr(holder, name, value)
        others.add(drawn())
        setattr(holder, name, before)
    assert len(others) == 5
    assert first not in others


def test_each_step_draws_anew():
    attached = lemo(deep.llama(), blocks="random", mlp_keep=1, keep=0.5)
    losses = []
    for step in (0, 1, 0):
        on_step(SimpleNamespace(model=attached.model, step=step), LemoConfig())
        losses.append(attached.model(**ROW)["loss"].item())
    assert losses[0] == losses[2] != losses[1]


def test_the_exact_map_is_that_of_a_naive_loop():
    torch.manual_seed(3)
    model = deep.llama()
    attention, hidden = surgery.decoder_layers(model)[1].self_attn, torch.randn(22, 32)
    with torch.no_grad():
        found = block_map(attention, hidden, LemoConfig(block=4, blocks="exact"))
        q, k = (project(hidden).view(22, -1, 8) for project in (attention.q_proj, attention.k_proj))
        for row in range(6):
            for column in range(6):
                entries = [
                    sum(float(F.relu(q[i, head] @ k[j, head // attention.num_key_value_groups])) for head in range(4))
                    for i in range(4 * row, min(22, 4 * row + 4))
                    for j in range(4 * column, min(22, 4 * column + 4))
                ]
                assert max(entries) == pytest.approx(float(found[row, column]), rel=1e-4)
        means = torch.stack([piece.mean(dim=0) for piece in hidden.split(4)])
        ones = block_map(attention, means, LemoConfig(block=1, blocks="exact"))
        torch.testing.assert_close(block_map(attention, hidden, LemoConfig(block=4)), ones, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", ["score", "exact"])
def test_a_norm_of_all_heads_together_comes_before_they_part(blocks):
    """As in OLMo 2."""
    model = small.family("olmo2", num_hidden_layers=4)
    forward, attention = elimination(model, blocks=blocks)
    for norm in (attention.q_norm, attention.k_norm):
        nn.init.normal_(norm.weight)
    hidden = torch.randn(12, model.config.hidden_size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = block_map(attention, hidden, forward.config)
        read = hidden if blocks == "exact" else torch.stack([piece.mean(0) for piece in hidden.split(4)])
        q, k = attention.q_norm(attention.q_proj(read)), attention.k_norm(attention.k_proj(read))
    heads, width = model.config.num_attention_heads, attention.head_dim
    q_NAD, k_NAD = (states.view(len(read), -1, width) for states in (q, k))
    each = [F.relu(q_NAD[:, head] @ k_NAD[:, head // attention.num_key_value_groups].T) for head in range(heads)]
    expected = sum(each)
    if blocks == "exact":
        expected = torch.stack([torch.stack([part.max() for part in rows.split(4, 1)]) for rows in expected.split(4)])
    torch.testing.assert_close(found, expected)


def test_layers_from_the_one_below_the_middle_leave_out_but_not_the_last():
    attached = lemo(deep.llama(6), block=4, first=None)
    numbers = [
        n
        for n, layer in enumerate(surgery.decoder_layers(attached.model))
        if isinstance(vars(layer.self_attn).get("forward"), Elimination)
    ]
    assert numbers == [2, 3, 4]


def test_what_listens_inside_attention_reads_the_row_of_the_kept_tokens():
    parts = replace(contract.composition(adapters="mhr"), sparsifier=contract.part("sparsifiers", "lemo"))
    targets = {"targets": ["q_proj", "v_proj"]}
    parts = replace(parts, adapter=replace(parts.adapter, config=parts.adapter.config.model_copy(update=targets)))
    attached = compose.compose(deep.llama().train(), parts, contract.looking([contract.batch(2)], ("",)), seed=0)
    attached.model(**ROW)["loss"].backward()
    assert surgery.plain(attached.model).passage.row.boundaries.tolist() == EDGES
    assert all(parameter.grad is not None for parameter in attached.trainable.values())


# --- memory


def test_each_part_keeps_as_much_less_as_the_card_says():
    """An MLP 2 K columns a token in place of 3 I and the norm's divisor; attention what it keeps of as many tokens."""
    model, sizes = deep.llama, {}
    for name, settings in {
        "none": {"keep": 1, "mlp_keep": 1},
        "mlp": {"keep": 1},
        "attention": {"mlp_keep": 1},
        "both": {},
    }.items():
        attached = lemo(model(6), **{"block": 4} | settings)
        sizes[name] = saved_bytes(attached.model, ROW)
    layers, inner, kept = 6, 48, int(0.2 * 48)
    of_mlp = layers * (4 * LENGTH * (3 * inner - 2 * kept) + 4 * LENGTH - 8 * kept)
    assert sizes["none"] - sizes["mlp"] == of_mlp
    assert sizes["none"] - sizes["both"] == (sizes["none"] - sizes["mlp"]) + (sizes["none"] - sizes["attention"])
    forward, _ = elimination(deep.llama(6))
    stay = len(forward.kept(torch.randn(LENGTH, 32), EDGES)[0])
    of_all, of_kept = (saved_bytes(*attention_alone(tokens)) for tokens in (LENGTH, stay))
    of_angles = 4 * LENGTH * 2 * 8  # those of all tokens are of all layers together, those of the kept ones of a layer
    assert sizes["none"] - sizes["attention"] == 5 * (of_all - of_kept - of_angles - 8 * stay)
    assert sizes["both"] < 0.6 * sizes["none"]


def attention_alone(tokens):
    """A model that is one layer's attention with a LoRA, and a row of so many tokens."""
    attached = lemo(deep.llama(2), keep=1, mlp_keep=1)
    inner = surgery.plain(attached.model)
    attention = surgery.decoder_layers(inner)[1].self_attn

    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, hidden, angles):
            return {"loss": attention(hidden_states=hidden, position_embeddings=angles, attention_mask=None)[0].sum()}

    hidden = torch.randn(1, tokens, 32, requires_grad=True)
    return Alone(), {"hidden": hidden, "angles": inner.model.rotary_emb(hidden, torch.arange(tokens)[None])}


def test_in_half_precision_the_norm_keeps_its_input_alone():
    def kept(**settings):
        model = deep.llama(2).to(torch.bfloat16)
        return saved_bytes(lemo(model, keep=1, **settings).model, ROW)

    columns = int(0.2 * 48)
    of_mlp = 2 * (2 * LENGTH * (3 * 48 - 2 * columns) - 8 * columns)
    assert kept(mlp_keep=1) - kept(mlp_keep=0.2) > of_mlp + 2 * 2 * LENGTH * 32


def test_a_short_row_is_cut_into_as_many_blocks_as_the_pack():
    assert shrunk(LemoConfig(block=64), 64 / 1024).block == 4
    assert shrunk(LemoConfig(block=64), 64 / 100_000).block == 1


# --- refusals


def test_an_mlp_that_trains_is_refused_in_one_sentence(tiny):
    for chosen in ({}, {"adapters": "lora"}):
        with pytest.raises(
            ValueError,
            match=r"no gradient, and layers\.0\.mlp\.\S+ trains\. Set methods\.lemo\.mlp_keep: 1, or let attention train alone",
        ):
            contract.composed(small.load(tiny), contract.composition(sparsifiers="lemo", **chosen))


def test_an_mlp_may_train_where_its_gradient_is_exact(tiny):
    parts = replace(contract.composition(), sparsifier=contract.part("sparsifiers", "lemo", mlp_keep=1))
    attached, optimizer = contract.composed(small.load(tiny), parts)
    assert contract.steps(attached, optimizer, parts) == set(attached.trainable)


def test_a_quantised_mlp_is_refused(tiny):
    base = contract.part("bases", "nf4")
    model, _ = checkpoints.load(tiny, quantization=base.method.quantization(base.config))
    with pytest.raises(
        ValueError,
        match=r"layers\.0\.mlp\.gate_proj is stored as Linear4bit\. Set methods\.lemo\.mlp_keep: 1, or use `base: none`",
    ):
        sparsify(model.requires_grad_(False), LemoConfig(**SMALL), 0)


def test_a_quantised_base_may_lose_blocks(tiny):
    base = contract.part("bases", "nf4")
    model, _ = checkpoints.load(tiny, quantization=base.method.quantization(base.config))
    parts = replace(over_lora(), base=base, sparsifier=contract.part("sparsifiers", "lemo", mlp_keep=1))
    attached, _ = composed(model.train(), parts)
    assert gradients(attached)[0].isfinite()


def test_layers_of_another_form_are_refused():
    with pytest.raises(
        ValueError, match=r"GPT2Block has no self_attn, and lemo needs layers of the form of LLaMA's and Qwen's"
    ):
        sparsify(small.gpt2(), LemoConfig(), 0)


@pytest.mark.parametrize(("layers", "first"), [(1, None), (6, 5), (6, 9)])
def test_where_no_layer_would_leave_blocks_out_it_is_refused(layers, first):
    with pytest.raises(ValueError, match=rf"first is {first or 0}, and the last of {layers} layers never drops blocks"):
        sparsify(deep.llama(layers).requires_grad_(False), LemoConfig(first=first), 0)


@pytest.mark.parametrize(
    "settings",
    [{"keep": 0}, {"keep": 1.1}, {"mlp_keep": 0}, {"mlp_keep": 2}, {"block": 0}, {"first": -1}, {"blocks": "oldest"}],
)
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ValidationError):
        LemoConfig(**settings)
