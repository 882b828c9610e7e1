"""A model that listens is told of every row: tasks, boundaries, look, training; two looks at a row are compared piece by piece."""

import copy
import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.records import Message
from tasks.core.weights.row import Row, listen, listens, task_key, unlisten
from tasks.core.weights.surgery import decoder_layers
from tasks.engine import forward
from tasks.engine.forward import Head, bind_loss, compared_losses, divergence, token_losses, use_packed_attention
from tasks.engine.inference import generation, scoring
from tasks.engine.packing import Pack, collate
from tasks.methods.objectives import Objective, ObjectiveSpec
from tests import tiny as small
from tests.methods import contract

SEQUENCES = [replace(sequence, task="ab"[number % 2]) for number, sequence in enumerate(small.sequences(5, seed=3))]


class Listener(nn.Module):
    """A layer that keeps the rows that it is called in."""

    def __init__(self, base, passage):
        super().__init__()
        self.base, self.passage, self.rows = base, passage, []

    def forward(self, x):
        self.rows.append(self.passage.row)
        return self.base(x)


def listening(model):
    """The listeners in the model's layers, which its hook tells of rows."""
    layers = decoder_layers(model)
    for layer in layers:
        layer.self_attn.q_proj = Listener(layer.self_attn.q_proj, listen(model))
    return [layer.self_attn.q_proj for layer in layers]


def keys(*names):
    return [task_key(name) for name in names]


@pytest.fixture(params=contract.MODELS)
def model(request, tiny):
    return contract.model(request.param, tiny)


def test_the_layers_know_the_row_of_their_pass(model):
    plain, listeners = token_losses(packed(model).eval(), collate([Pack(tuple(SEQUENCES))])), listening(model)
    row = collate([Pack(tuple(SEQUENCES))])
    assert torch.equal(token_losses(model, row), plain)
    for listener in listeners:
        (noted,) = listener.rows
        assert noted.tasks.tolist() == keys("a", "b", "a", "b", "a")
        assert noted.boundaries.tolist() == row["boundaries"].tolist()
        assert (noted.look, noted.training) == (0, False)


def test_a_training_pass_says_so_and_so_do_two_looks(model):
    twice = Objective(loss=lambda nll, tokens, _: (nll + tokens.divergence).sum())
    part = replace(contract.part("objectives"), method=twice, spec=ObjectiveSpec(config=None, looks=2))
    bind_loss(model, part, contract.part("adapters"))
    (first, *_) = listening(model)
    model.train()(**collate([Pack(tuple(SEQUENCES))]))
    assert [(row.look, row.training) for row in first.rows] == [(0, True), (1, True)]


def test_auxiliary_sequences_are_a_row_of_their_own(model):
    use_packed_attention(model)
    (first, *_) = listening(model)
    pairs = [small.paired(sequence) for sequence in SEQUENCES[:2]]
    forward.observe(model.eval(), collate([Pack(tuple(pairs))]), auxiliary=True)
    worse, row = first.rows
    assert worse.boundaries.tolist() == row.boundaries.tolist()
    assert worse.tasks.tolist() == row.tasks.tolist() == keys("a", "b")


def test_scoring_tells_of_tasks(model):
    (first, *_) = listening(model)
    list(scoring.losses(model.eval(), SEQUENCES))
    (row,) = first.rows
    shortest_first = sorted(SEQUENCES, key=len)
    assert row.tasks.tolist() == keys(*(sequence.task for sequence in shortest_first))


def test_generation_tells_of_each_rows_task_while_rows_come_and_go(tiny):
    model, tokenizer = small.decided(tiny)
    prompts = [[Message("user", text)] for text in ("b", "", "Somewhat shorter", "A long question of many words?")]
    options = {"max_new_tokens": 6, "batch_size": 2}
    silent = generation.write(model, prompts, tokenizer, **options)
    read, first = {}, listening(model)[0]
    original = model.forward

    def watched(**inputs):
        for ids, key in zip(inputs["input_ids"].tolist(), inputs["row"].tasks.tolist(), strict=True):
            if len(ids) > 1:
                read[key] = tokenizer.decode(ids, skip_special_tokens=True)
        assert inputs["row"].boundaries is None
        return original(**inputs)

    watched.__signature__ = inspect.signature(original)
    model.forward = watched
    assert generation.write(model, prompts, tokenizer, tasks=["w", "x", "y", "z"], **options) == silent
    assert all(prompts["wxyz".index(name)][0].content in read[task_key(name)] for name in "wxyz")
    assert {key for row in first.rows for key in row.tasks.tolist()} == set(keys("w", "x", "y", "z"))
    assert {len(row.tasks) for row in first.rows} == {1, 2}


def test_a_pass_that_tells_nothing_leaves_no_old_row(model):
    (first, *_) = listening(model)
    token_losses(packed(model).eval(), collate([Pack(tuple(SEQUENCES))]))
    model(input_ids=torch.tensor([[1, 2, 3]]))
    assert first.rows[-1] is None


def test_a_layer_that_runs_again_going_backward_finds_the_row_of_its_pass(model):
    (first, *_) = listening(packed(model))
    model.train().activation_checkpointing_enable()
    batch = collate([Pack(tuple(SEQUENCES))])
    nll, apart = compared_losses(model, batch)
    (nll + apart).sum().backward()
    assert sorted(row.look for row in first.rows) == [0, 0, 1, 1]


def test_a_model_that_does_not_listen_is_told_nothing(model):
    assert not listens(model)
    listening(model)
    assert listens(model)
    unlisten(model)
    assert not listens(model)
    assert not any(module._forward_pre_hooks for layer in decoder_layers(model) for module in layer.modules())


def test_a_copy_of_a_model_has_a_passage_of_its_own(model):
    (first, *_) = listening(packed(model).eval())
    (copied, *_) = (layer.self_attn.q_proj for layer in decoder_layers(copy.deepcopy(model)))
    assert copied.passage is not first.passage
    other = copy.deepcopy(model)
    token_losses(other, collate([Pack(tuple(SEQUENCES))]))
    assert decoder_layers(other)[0].self_attn.q_proj.rows[0].tasks.tolist() == keys("a", "b", "a", "b", "a")
    assert first.rows == []


def test_values_of_sequences_reach_their_tokens():
    values = torch.arange(6.0).view(3, 2)
    packed_row = Row(torch.zeros(3), torch.tensor([0, 2, 3, 6], dtype=torch.int32))
    assert packed_row.of_each_token(values, 6)[0, :, 0].tolist() == [0, 0, 2, 4, 4, 4]
    assert Row(torch.zeros(3)).of_each_token(values, 4).shape == (3, 4, 2)


def packed(model):
    use_packed_attention(model)
    return model


def textbook(first, second, head):
    """The symmetric divergence with a stopped gradient in each half, of all logits at once."""
    one, two = (head(hidden).log_softmax(dim=1) for hidden in (first, second))
    halves = [(two.detach(), one), (one.detach(), two)]
    return sum(0.5 * (p.exp() * (p - q)).sum(dim=1) for p, q in halves)


@pytest.mark.parametrize("bias", [True, False])
def test_two_looks_are_as_far_apart_as_by_the_textbook_and_so_is_the_gradient(monkeypatch, bias):
    monkeypatch.setattr(forward, "HEAD_ROWS", 4)
    torch.manual_seed(0)
    head, weigh = nn.Linear(6, 11, bias=bias), torch.randn(10)
    looks = [torch.randn(10, 6, requires_grad=True) for _ in range(2)]
    results = []
    for function, of in ((divergence, Head(head.weight, head.bias, None)), (textbook, head)):
        value = function(*looks, of)
        (value * weigh).sum().backward()
        results.append([value, *(p.grad for p in (*looks, *head.parameters()))])
        for parameter in (*looks, *head.parameters()):
            parameter.grad = None
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_no_more_than_a_piece_of_the_logits_is_kept(monkeypatch):
    monkeypatch.setattr(forward, "HEAD_ROWS", 4)
    head, looks = nn.Linear(6, 5000, bias=False), [torch.randn(40, 6, requires_grad=True) for _ in range(2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        divergence(*looks, Head(head.weight, None, None)).sum()
    assert max((size for size in kept if size != head.weight.numel()), default=0) < 5000


def test_looks_that_are_the_same_are_not_apart(tiny):
    model = packed(small.load(tiny)).train()  # it has no dropout
    nll, apart = compared_losses(model, collate([Pack(tuple(SEQUENCES))]))
    assert torch.equal(nll, token_losses(model, collate([Pack(tuple(SEQUENCES))])))
    assert apart.abs().max() < 1e-6
    gradients = torch.autograd.grad(apart.sum(), list(model.parameters()), allow_unused=True)
    assert max(g.abs().max() for g in gradients if g is not None) < 1e-5


def test_the_two_looks_of_an_optimizer_without_gradients_are_refused():
    from tasks.engine.training import compose

    twice = replace(contract.part("objectives"), spec=ObjectiveSpec(config=F, looks=2))
    parts = replace(contract.composition(optimizers="mezo"), objective=twice)
    with pytest.raises(ValueError, match="compares two random passes of a row, and optimizer 'mezo' makes none"):
        compose.check(parts)
