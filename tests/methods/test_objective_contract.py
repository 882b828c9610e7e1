"""What every objective owes: it is run for each file found in the folder, through a LLaMA and a Qwen2."""

from dataclasses import fields, replace

import pytest
import torch
from torch.nn import functional as F

from tasks import methods
from tasks.engine.forward import observe, use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.methods.objectives import Auxiliary, Tokens
from tasks.stages.tune.config import STAGE
from tests import tiny as small
from tests.methods import contract

OBJECTIVES = methods.names("objectives")
NLL = torch.rand(6, generator=torch.Generator().manual_seed(0))
SEGMENTS = torch.tensor([0, 0, 0, 1, 1, 2])
TASKS = torch.tensor([0, 0, 0, 1, 1, 0])


def columns(spec, count):
    """The columns that an objective reads of so many tokens, each with its fill."""
    return {column.name: torch.full((count,), column.fill) for column in spec.columns}


def tokens(spec, at=slice(None)):
    """The six tokens of a step, or some of them: a pack of it."""
    return Tokens(
        weights=torch.ones(6)[at],
        segments=SEGMENTS[at],
        tasks=TASKS[at],
        task_tokens=torch.tensor([4, 2]),
        task_examples=torch.tensor([2, 1]),
        numbers=torch.arange(3),
        columns=columns(spec, len(SEGMENTS[at])),
        divergence=torch.arange(6.0)[at] if spec.looks == 2 else None,
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_packs_of_a_step_add_up_whatever_their_cut(name):
    part = contract.part("objectives", name)
    whole = part.method.loss(NLL, tokens(part.spec), part.config)
    assert whole.shape == ()
    apart = sum(part.method.loss(NLL[at], tokens(part.spec, at), part.config) for at in (slice(0, 3), slice(3, 6)))
    torch.testing.assert_close(whole, apart)


SPECS = {name: methods.spec("objectives", name) for name in OBJECTIVES}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_that_is_more_than_weighted_losses_of_tokens_says_so(name):
    part = contract.part("objectives", name)
    nll, weights = torch.ones(6), torch.arange(6.0)
    marked = {column.name: torch.full((6,), 7) for column in part.spec.columns}  # every flag of every token
    owners = torch.arange(3)
    wrong = Auxiliary(
        nll=torch.ones(6), segments=SEGMENTS, owners=owners, with_auxiliary=torch.tensor(3), columns=marked
    )
    given = replace(tokens(part.spec), weights=weights, columns=marked, auxiliary=wrong)
    if part.spec.looks == 2:
        given = replace(given, divergence=torch.zeros(6))
    losses = [part.method.loss(nll, replace(given, weights=weights * one), part.config).item() for one in torch.eye(6)]
    is_weighted_sum = losses == weights.tolist()
    assert is_weighted_sum != bool(part.spec.weighs)


@pytest.mark.parametrize("name", [n for n, spec in SPECS.items() if not spec.hits and not spec.needs])
def test_with_one_task_and_equal_losses_the_loss_is_their_mean(name):
    part = contract.part("objectives", name)
    one = Tokens(
        weights=torch.ones(4),
        segments=torch.tensor([0, 0, 1, 1]),
        tasks=torch.zeros(4, dtype=torch.long),
        task_tokens=torch.tensor([4]),
        task_examples=torch.tensor([2]),
        numbers=torch.arange(2),
        columns=columns(part.spec, 4),
        divergence=torch.zeros(4) if part.spec.looks == 2 else None,
    )
    nll = torch.full((4,), 1.5, requires_grad=True)
    loss = part.method.loss(nll, one, part.config)
    assert loss.requires_grad
    torch.testing.assert_close(loss / 4, torch.tensor(1.5))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_table_is_an_input_of_stage_tune_whose_rows_name_their_example(name):
    table = methods.spec("objectives", name).table
    assert table is None or table.name in STAGE.reads
    assert table is None or "example" in {field.name for field in fields(table.row)}


SEQUENCES = [small.paired(replace(s, task="ab"[n % 2])) for n, s in enumerate(small.sequences(3, seed=1))]
TRAINED = {task: [s.num_trained for s in SEQUENCES if s.task == task] for task in "ab"}
COUNTS = {
    "task_tokens": torch.tensor([*map(sum, TRAINED.values())]),
    "task_examples": torch.tensor([*map(len, TRAINED.values())]),
}


def textbook(model, sequence, *, hits):
    """The losses of a sequence's trained tokens under a plain forward of transformers, or its hits."""
    logits = model(input_ids=torch.tensor([sequence.ids])).logits[0, :-1].float()
    ids, trained = torch.tensor(sequence.ids[1:]), torch.tensor(sequence.weights[1:]) > 0
    return ((logits.argmax(dim=1) == ids).float() if hits else F.cross_entropy(logits, ids, reduction="none"))[trained]


@pytest.mark.parametrize("kind", contract.MODELS)
@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
def test_loss_and_gradient_are_those_of_a_plain_forward_of_one_sequence_at_a_time(tiny, kind, name, dtype):
    part = contract.part("objectives", name)
    method, tolerance = part.method, 1e-4 if dtype is torch.float32 else 0.05
    optimizer = "mezo" if part.spec.hits else "adamw"
    bound, packed, plain = (contract.model(kind, tiny, dtype) for _ in range(3))
    attached, _ = contract.composed(bound, contract.composition(objectives=name, optimizers=optimizer))
    row = collate([Pack(tuple(SEQUENCES))], tuple(TRAINED), part.spec.columns) | COUNTS
    found = attached.model(**row)["loss"]

    use_packed_attention(packed)
    reads_auxiliary = bool(method.reads_auxiliary and method.reads_auxiliary(part.config))
    _, tokens = observe(
        packed,
        row,
        hits=part.spec.hits,
        looks=part.spec.looks,
        auxiliary=reads_auxiliary,
        auxiliary_gradient=part.spec.auxiliary_gradient,
    )
    values = torch.cat([textbook(plain, sequence, hits=part.spec.hits) for sequence in SEQUENCES])
    expected = method.loss(values, tokens, part.config) / len(values)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    if part.spec.hits:
        assert not found.requires_grad
        return
    ours = gradients(found, bound)
    theirs = gradients(expected, plain) + gradients(expected, packed)  # the auxiliary sequences went through the latter
    assert (ours - theirs).norm() < tolerance * theirs.norm()


def gradients(loss, model):
    """The gradient of a loss by all parameters of a model, zeros where it has none."""
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.float().flatten() for gradient in found])
