"""Every model of the same params is measured on the same items."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Example
from tasks.core.sequences import Encoded
from tasks.io import tables
from tasks.stages.evaluate.subsample import sample, shuffled
from tests import tiny
from tests.stages.evaluate.test_evaluate import evaluate, inputs  # noqa: F401
from tests.support import ScratchRun


@given(st.lists(st.integers(), unique=True), st.integers(0, 50), st.integers(0, 3))
def test_a_sample_has_its_size_and_keeps_the_order(rows, count, seed):
    chosen = sample(rows, count, seed, str)
    assert len(chosen) == min(count, len(rows))
    assert chosen == [row for row in rows if row in set(chosen)]
    assert chosen == sample(rows, count, seed, str)


def test_another_seed_is_another_sample():
    assert sample(range(100), 10, 0, str) != sample(range(100), 10, 1, str)


def test_rows_that_come_in_anywhere_leave_nearly_all_of_a_sample():
    before = sample(range(300), 64, 0, str)
    after = sample([*range(150), *range(1000, 1008), *range(150, 300)], 64, 0, str)
    assert len(set(before) - set(after)) <= 8


def rows(lengths):
    return [Encoded(str(n), [0] * length, [1.0] * length) for n, length in enumerate(lengths)]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 100), st.integers(0, 3))
def test_sequences_within_a_budget_do_not_exceed_it_and_are_never_none(lengths, budget, seed):
    taken = shuffled(rows(lengths), budget, seed)
    assert bool(taken) == bool(lengths)
    assert len(taken) <= 1 or sum(map(len, taken)) <= budget
    assert len({row.id for row in taken}) == len(taken)
    assert taken == shuffled(rows(lengths), budget, seed)


@given(st.lists(st.integers(1, 30), max_size=20))
def test_a_budget_for_all_takes_all(lengths):
    assert {row.id for row in shuffled(rows(lengths), 10_000, 0)} == {row.id for row in rows(lengths)}


def test_a_larger_budget_adds_and_takes_nothing_away():
    small, large = (shuffled(rows([7] * 30), budget, 0) for budget in (50, 100))
    assert large[: len(small)] == small
    assert (len(small), len(large)) == (7, 14)


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_does_not_favour_short_sequences(seed):
    # One long sequence among many short ones is as likely to come first as any.
    lengths = [100, *[1] * 3]
    firsts = [shuffled(rows(lengths), 10, number)[0].id for number in range(200 * seed, 200 * (seed + 1))]
    assert 25 <= firsts.count("0") <= 75


def test_examples_that_the_loss_leaves_out_are_counted(evaluate, inputs, monkeypatch):  # noqa: F811
    said = []
    monkeypatch.setattr(ScratchRun, "say", lambda run, text: said.append(text))
    rows = [tiny.example(n, response=text) for n, text in enumerate(["short", "long " * 300])]
    rows.append(tiny.example(2, desirable=False))
    tables.write(inputs["test"], rows, Example)
    assert evaluate()[0]["domain"]["items"] == 1
    assert said[0] == (
        "evaluate r0: the loss leaves out 1 of 2 held-out examples, which are longer than evaluate.max_tokens=200, or spell a control token"
    )


def test_where_every_answer_is_undesirable_the_texts_are_measured_alone(evaluate, inputs):  # noqa: F811
    tables.write(inputs["test"], [tiny.example(0, desirable=False)], Example)
    metrics, _ = evaluate()
    assert "domain" not in metrics
    assert metrics["domain_text"]["items"] == 3
