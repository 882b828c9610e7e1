"""Packed token losses are the unpacked ones: a plain forward of transformers, one sequence at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tasks.core.sequences import Encoded
from tasks.engine import forward
from tasks.engine.forward import bind_loss, token_hits, token_logits, token_losses, use_packed_attention
from tasks.engine.packing import Pack, collate
from tests import tiny
from tests.methods.contract import part


def reference(model, sequence):
    """The losses of a sequence's trained tokens, by the textbook."""
    logits = model(input_ids=torch.tensor([sequence.ids])).logits[0].float()
    nll = F.cross_entropy(logits[:-1], torch.tensor(sequence.ids[1:]), reduction="none")
    return nll[torch.tensor(sequence.weights[1:]) > 0]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2"])
def pair(request, tiny):
    """The same model twice: packed, and as transformers has it."""
    from tests.tiny import gpt2, load, qwen2

    make = {"llama": lambda: load(tiny), "qwen2": qwen2, "gpt2": gpt2}[request.param]
    packed, plain = make(), make()
    use_packed_attention(packed)
    return packed.eval(), plain.eval()


@pytest.fixture(params=[forward.HEAD_ROWS, 4], ids="{} rows of logits".format)
def of_pieces(request, monkeypatch):
    """Has the head make so many rows of logits at a time: all at once, or many pieces and a last one that is not full."""
    monkeypatch.setattr(forward, "HEAD_ROWS", request.param)


@pytest.mark.usefixtures("of_pieces")
@torch.no_grad()
def test_packed_losses_are_the_unpacked_ones(pair):
    packed, plain = pair
    sequences = tiny.sequences(9, seed=3)
    found = token_losses(packed, collate([Pack(tuple(sequences))]))
    expected = torch.cat([reference(plain, sequence) for sequence in sequences])
    assert len(expected) % 4, "no piece is left short"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_logits_are_those_of_the_trained_tokens(pair):
    packed, plain = pair
    sequences = tiny.sequences(4, seed=3)
    logits = token_logits(packed, collate([Pack(tuple(sequences))]))
    expected = [
        plain(input_ids=torch.tensor([s.ids])).logits[0, :-1][torch.tensor(s.weights[1:]) > 0] for s in sequences
    ]
    torch.testing.assert_close(logits, torch.cat(expected), rtol=0, atol=1e-4)


@torch.no_grad()
def test_losses_depend_on_the_context(pair):
    # Were the two models blind to context, the test above would prove nothing about boundaries.
    _, plain = pair
    one, other = (reference(plain, Encoded("x", [first, 7, 8, 9], [0, 0, 0, 1.0])) for first in (1, 2))
    assert not torch.allclose(one, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mistral", {"sliding_window": 8}),
        ("gemma3_text", {"sliding_window": 8, "head_dim": 8}),
        ("olmo3", {"sliding_window": 8}),
        ("phimoe", {"sliding_window": 8, "num_local_experts": 2}),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 8, "num_experts": 4}),  # in every other layer
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.0625}),
    ],
)
@torch.no_grad()
def test_windows_and_scaled_logits_are_those_of_the_family(name, config):
    packed, plain = tiny.family(name, **config), tiny.family(name, **config)
    use_packed_attention(packed)
    sequences = tiny.sequences(4, seed=3, vocabulary=128)
    row = collate([Pack(tuple(sequences))])
    expected = torch.cat([reference(plain, sequence) for sequence in sequences])
    torch.testing.assert_close(token_losses(packed, row), expected, rtol=0, atol=1e-4)
    nll = F.cross_entropy(token_logits(packed, row), row["labels"][row["labels"] >= 0], reduction="none")
    torch.testing.assert_close(nll, expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("of_pieces")
@pytest.mark.parametrize("name", tiny.ALONE)
def test_a_family_that_would_be_another_model_in_a_row_reads_its_sequences_alone(name):
    model, plain = (tiny.family(name, **tiny.ALONE[name]) for _ in range(2))
    use_packed_attention(model)
    assert forward.reads_alone(model)
    sequences = tiny.sequences(4, seed=3, vocabulary=128)
    row = collate([Pack(tuple(sequences))])
    found, expected = token_losses(model, row), torch.cat([reference(plain, sequence) for sequence in sequences])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    nll = F.cross_entropy(token_logits(model, row), row["labels"][row["labels"] >= 0], reduction="none")
    torch.testing.assert_close(nll, expected, rtol=0, atol=1e-4)
    found.sum().backward()
    expected.sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize("name", ["qwen3_5_text", "lfm2", "mamba", "gemma2", "gpt_oss"])
def test_states_that_layers_hand_on_caps_and_sinks_are_known_though_weights_hardly_show_them(name):
    model = tiny.family(name, **tiny.ALONE[name])
    for parameter in model.parameters():
        parameter.data *= 0.01
    use_packed_attention(model)
    assert forward.reads_alone(model)


@torch.no_grad()
def test_logits_that_are_capped_do_not_keep_sequences_apart():
    config = {"head_dim": 8, "final_logit_softcapping": 0.5}
    packed, plain = tiny.family("gemma3_text", **config), tiny.family("gemma3_text", **config)
    use_packed_attention(packed)
    assert not forward.reads_alone(packed)
    sequences = tiny.sequences(4, seed=3, vocabulary=128)
    expected = torch.cat([reference(plain, sequence) for sequence in sequences])
    torch.testing.assert_close(token_losses(packed, collate([Pack(tuple(sequences))])), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama4_text", {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48}),
        ("modernbert-decoder", {}),  # whose head is called `decoder`
    ],
)
def test_a_family_whose_decoder_is_not_found_is_refused(name, config):
    with pytest.raises(ValueError, match=f"Family {name} keeps its decoder where transformers does not find it"):
        use_packed_attention(tiny.family(name, **config))


def test_the_gradient_of_the_head_is_not_copied():
    head = forward.Head.of(tiny.qwen2())
    assert head.weight.is_leaf


def test_a_family_that_reads_neither_way_is_refused_and_left_as_it_was(monkeypatch):
    model = tiny.family("gpt2")
    monkeypatch.setattr(
        forward, "scale_of_logits", lambda model: 3.0
    )  # as of a family that does something after its head
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"Family gpt2 cannot be read: the losses of two short sequences differ by \d"
        ):
            use_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
    assert not forward.reads_alone(model)


def test_mixed_precision_does_not_look_like_another_model(monkeypatch):
    model, mixed = tiny.family("llama", num_hidden_layers=8), []
    compared = forward.token_losses
    monkeypatch.setattr(
        forward,
        "token_losses",
        lambda *given: (mixed.append(torch.is_autocast_enabled("cpu")), compared(*given))[1],
    )
    with torch.autocast("cpu", torch.bfloat16):
        use_packed_attention(model)
    assert not forward.reads_alone(model), "a rounded row was taken for one that mixes its sequences"
    assert mixed == [False]  # whether rounding shows depends on the processor


def test_a_model_is_checked_once_and_left_as_it_was(monkeypatch):
    model, checked = tiny.qwen2().train(), []
    choose = forward._chosen
    monkeypatch.setattr(forward, "_chosen", lambda model: (checked.append(1), choose(model))[1])
    drawn = torch.random.get_rng_state()
    use_packed_attention(model)
    model.set_attn_implementation("sdpa")
    use_packed_attention(model)
    assert len(checked) == 1
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), drawn)


@settings(max_examples=15)
@given(before=st.integers(0, 3), after=st.integers(0, 3), seed=st.integers(0, 99))
@torch.no_grad()
def test_a_sequences_loss_does_not_change_with_its_neighbours(pair, before, after, seed):
    packed, _ = pair
    mine, *others = tiny.sequences(1 + before + after, seed=seed)
    alone = token_losses(packed, collate([Pack((mine,))]))
    row = collate([Pack((*others[:before], mine, *others[before:]))])
    owners = row["segments"][0][row["labels"][0] >= 0]
    torch.testing.assert_close(token_losses(packed, row)[owners == before], alone, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("of_pieces")
def test_gradients_are_the_unpacked_ones(pair):
    packed, plain = pair
    sequences = tiny.sequences(4, seed=5)
    token_losses(packed, collate([Pack(tuple(sequences))])).sum().backward()
    sum(reference(plain, sequence).sum() for sequence in sequences).backward()
    for (name, found), expected in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4, msg=name)
    packed.zero_grad()
    plain.zero_grad()


def test_the_bound_loss_is_the_weighted_sum_over_the_steps_tokens(tiny):
    from tests.tiny import load, sequences

    plain, model = load(tiny).eval(), load(tiny).eval()
    bind_loss(model, part("objectives"), part("adapters"))
    weighed = [Encoded(s.id, s.ids, [3.0 * weight for weight in s.weights]) for s in sequences(3)]
    batch = collate([Pack(tuple(weighed))])
    expected = 3 * sum(reference(plain, sequence).sum() for sequence in weighed)
    torch.testing.assert_close(model(**batch, num_items_in_batch=40)["loss"], expected / 40)
    trained = sum(sequence.num_trained for sequence in weighed)
    torch.testing.assert_close(model(**batch)["loss"], expected / trained)


@torch.no_grad()
def test_bf16_losses_are_near_the_fp32_ones(pair):
    packed, plain = pair
    sequences = tiny.sequences(9, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = token_losses(packed, collate([Pack(tuple(sequences))]))
    assert found.dtype == torch.float32
    expected = torch.cat([reference(plain, sequence) for sequence in sequences])
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)  # bf16 keeps 8 bits


@pytest.mark.usefixtures("of_pieces")
@pytest.mark.parametrize("gradient", [True, False])
def test_bf16_losses_that_are_read_one_by_one_are_not_rounded_to_bf16(gradient):
    model = tiny.qwen2().eval().bfloat16()
    use_packed_attention(model)
    row = collate([Pack(tuple(tiny.sequences(9, seed=3)))])
    with torch.set_grad_enabled(gradient):
        found = token_losses(model, row, exact=gradient)
    labels = row["labels"][row["labels"] >= 0]
    expected = F.cross_entropy(token_logits(model, row), labels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if gradient:
        of_ours, of_theirs = (torch.autograd.grad(nll.sum(), list(model.parameters())) for nll in (found, expected))
        for ours, theirs in zip(of_ours, of_theirs, strict=True):
            assert (ours - theirs).norm() <= 0.02 * theirs.norm() + 1e-6


@pytest.mark.usefixtures("of_pieces")
@torch.no_grad()
def test_hits_are_the_tokens_that_come_first(pair):
    packed, plain = pair
    sequences = tiny.sequences(9, seed=3)
    found = token_hits(packed, collate([Pack(tuple(sequences))]))
    expected = []
    for sequence in sequences:
        first = plain(input_ids=torch.tensor([sequence.ids])).logits[0].argmax(dim=1)[:-1].tolist()
        expected += [float(a == b) for a, b, w in zip(first, sequence.ids[1:], sequence.weights[1:], strict=True) if w]
    assert found.tolist() == expected
