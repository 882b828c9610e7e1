"""MFTCoder's means give every task its share, and its weights follow the slopes of validation losses.

`data/mftcoder.json` has what the authors' `loss_utils.py` gave: release 0.5 the losses and CoBa's weights, and 0.4.2,
the last that had them, self-paced weights.
"""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tasks.methods.objectives import Tokens
from tasks.methods.objectives.mftcoder.config import MftcoderConfig
from tasks.methods.objectives.mftcoder.method import loss, share
from tests.methods.official import frozen, same, wave

CASES = ["case1", "case2", "case3", "case4"]


class Killed(Exception):
    """The process went away at this step."""


def batch(owners, weights=None, num_tasks=3):
    """Token losses and what is known of them, for examples given as (task, trained tokens)."""
    lengths = torch.tensor([length for _, length in owners])
    tasks = torch.tensor([task for task, _ in owners])
    tokens = Tokens(
        weights=torch.ones(int(lengths.sum())),
        segments=torch.arange(len(owners)).repeat_interleave(lengths),
        tasks=tasks.repeat_interleave(lengths),
        task_tokens=torch.zeros(num_tasks, dtype=torch.long).index_add_(0, tasks, lengths),
        task_examples=tasks.bincount(minlength=num_tasks),
        numbers=torch.arange(len(owners)),
        state={} if weights is None else {"task_weights": torch.tensor(weights)},
    )
    nll = torch.rand(int(lengths.sum()), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    return nll.requires_grad_(), tokens


def mean(nll, tokens, case):
    """What the engine makes of a step of one pack."""
    return loss(nll, tokens, MftcoderConfig(aggregation=case)) / tokens.task_tokens.sum()


def reference(logits, labels, mask, task_id, case, weights):
    """The loss as the card has it, on padded rows: every example a row, every task a set of rows."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * mask
    per_row = losses.sum(1) / mask.sum(1)
    if case == "case1":
        return losses.sum() / mask.sum()
    if case == "case2":
        return per_row.mean()
    total = 0.0
    for task in task_id.unique():
        rows = task_id == task
        of_task = losses[rows].sum() / mask[rows].sum() if case == "case3" else per_row[rows].mean()
        total = total + weights[task] * of_task
    return total / weights[task_id.unique()].sum()


@pytest.mark.parametrize("case", CASES)
def test_a_hand_made_batch_gives_the_loss_of_padded_rows(case):
    # Four rows of three tasks, of which task 1 is absent.
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 7, 11, generator=generator, dtype=torch.float64)
    labels = torch.randint(11, (4, 7), generator=generator)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 0]])
    task_id, v = torch.tensor([2, 0, 0, 2]), torch.tensor([0.5, 7.0, 2.0])
    expected = reference(logits, labels, mask, task_id, case, v)
    nll = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")[mask.bool()]
    tokens = batch(list(zip(task_id.tolist(), mask.sum(1).tolist(), strict=True)), v.tolist())[1]
    torch.testing.assert_close(mean(nll, tokens, case), expected)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_gradient_are_those_of_the_official_code(case):
    """loss_func_mft with four rows of three tasks, of which task 1 is absent."""
    logits, expected = (2 * wave(4, 5, 4, phase=0.3)).requires_grad_(), frozen("mftcoder")
    labels = (torch.arange(20) * 7 % 4).view(4, 5)
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 1, 1]]).bool()
    nll = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")[mask]
    owners = list(zip([2, 0, 0, 2], mask.sum(1).tolist(), strict=True))
    found = mean(nll, batch(owners, [0.5, 7.0, 2.0])[1], case)
    found.backward()
    same(found, expected["loss"][case])
    same(logits.grad[mask], expected["gradient"][case])
    assert torch.count_nonzero(logits.grad[~mask]) == 0


def test_with_one_task_balancing_tasks_changes_nothing():
    nll, tokens = batch([(0, 3), (0, 1), (0, 6)], num_tasks=1)
    torch.testing.assert_close(mean(nll, tokens, "case1"), nll.mean())
    torch.testing.assert_close(mean(nll, tokens, "case3"), nll.mean(), rtol=0, atol=1e-6)
    torch.testing.assert_close(mean(nll, tokens, "case4"), mean(nll, tokens, "case2"), rtol=0, atol=1e-6)
    assert not torch.allclose(mean(nll, tokens, "case1"), mean(nll, tokens, "case2"), atol=1e-3)


@pytest.mark.parametrize(("case", "changes"), [("case1", True), ("case2", True), ("case3", False), ("case4", False)])
def test_a_task_given_twice_weighs_no_more_where_tasks_are_balanced(case, changes):
    owners = [(0, 3), (1, 2), (2, 5)]
    nll, once = batch(owners)
    _, twice = batch([*owners, (0, 3)])
    doubled = torch.cat([nll, nll[:3]])
    (gradient,) = torch.autograd.grad(mean(nll, once, case), nll)
    (gradient_twice,) = torch.autograd.grad(mean(doubled, twice, case), nll)
    assert torch.allclose(mean(doubled, twice, case), mean(nll, once, case), atol=1e-6) is not changes
    assert torch.allclose(gradient, gradient_twice, atol=1e-6) is not changes


@pytest.mark.parametrize("case", ["case3", "case4"])
def test_only_the_ratios_of_weights_count(case):
    owners = [(0, 3), (1, 2), (2, 5), (1, 1)]
    nll, tokens = batch(owners, [1.0, 2.0, 0.5])
    torch.testing.assert_close(mean(nll, batch(owners, [10.0, 20.0, 5.0])[1], case), mean(nll, tokens, case))
    torch.testing.assert_close(mean(nll, batch(owners, [1.0, 1.0, 1.0])[1], case), mean(nll, batch(owners)[1], case))
    assert not torch.allclose(mean(nll, tokens, case), mean(nll, batch(owners)[1], case), atol=1e-3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_the_packs_of_a_step_add_up_wherever_it_is_cut(case, cut):
    owners = [(0, 3), (1, 2), (2, 5), (1, 1), (0, 2)]
    nll, whole = batch(owners, [1.0, 2.0, 0.5])
    apart = []
    for examples in (range(cut), range(cut, len(owners))):
        held = torch.isin(whole.segments, torch.tensor(list(examples)))
        segments = whole.segments[held] - examples.start  # a pack counts its own examples
        pack = replace(whole, weights=whole.weights[held], segments=segments, tasks=whole.tasks[held])
        apart.append(loss(nll[held], pack, MftcoderConfig(aggregation=case)))
    torch.testing.assert_close(sum(apart), loss(nll, whole, MftcoderConfig(aggregation=case)))


@pytest.mark.parametrize("case", CASES)
def test_the_weight_of_a_token_scales_its_own_loss(case):
    nll, tokens = batch([(0, 3), (1, 2), (2, 5)])
    weighted = replace(tokens, weights=torch.linspace(0.5, 2, 10))
    expected = (share(tokens, MftcoderConfig(aggregation=case)) * weighted.weights * nll).sum()
    torch.testing.assert_close(loss(nll, weighted, MftcoderConfig(aggregation=case)), expected)
    torch.testing.assert_close(share(tokens, MftcoderConfig(aggregation=case)).sum(), torch.tensor(10.0))
