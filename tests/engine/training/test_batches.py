"""Steps are cut from packs: none is in two, none is left out, and each knows the tokens and examples of its tasks."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.engine.packing import Packs
from tasks.engine.sequences import listed
from tasks.engine.training.batches import Batches, PackDataset, lay_out

TASKS = ("sums", "words")


def pack(*lengths, task="sums"):
    return [Encoded(f"{n}", [1] * n, [0.0] + [1.0] * (n - 1), task=task) for n in lengths]


PACKS = Packs.of([pack(4), pack(3, 5), pack(6, task="words"), pack(2), pack(7)])
BATCHES = Batches(PACKS, packs_per_step=2, tasks=TASKS)


def test_every_pack_is_in_one_step_and_the_last_step_may_have_fewer():
    assert BATCHES.steps == 3
    assert [pack for step in (1, 2, 3) for pack in BATCHES.of_step(step)] == list(PACKS)
    assert len(BATCHES.of_step(3)) == 1
    assert replace(BATCHES, packs=PACKS.first(4)).steps == 2


def test_tokens_and_sequences_are_counted_after_each_step():
    assert BATCHES.tokens_after == [12, 20, 27]
    assert BATCHES.sequences_after == [3, 5, 6]
    assert replace(BATCHES, packs=PACKS.first(4)).tokens_after == [12, 20]


def test_a_row_knows_the_trained_tokens_and_examples_of_every_task_in_its_step():
    rows = [PackDataset(BATCHES)[index] for index in range(len(PackDataset(BATCHES)))]
    assert [row["task_tokens"].tolist() for row in rows] == [[9, 0], [9, 0], [1, 5], [1, 5], [6, 0]]
    assert [row["task_examples"].tolist() for row in rows] == [[3, 0], [3, 0], [1, 1], [1, 1], [1, 0]]


def test_a_row_knows_the_examples_with_auxiliary_sequences_in_its_step():
    (one, *_), worse = pack(3), pack(4)
    pair = replace(one, auxiliary=tuple(worse))
    batches = Batches(Packs.of([[pair, one], [pair], [one], [one], [pair]]), packs_per_step=2, tasks=TASKS)
    assert [row["with_auxiliary"].item() for row in PackDataset(batches)] == [2, 2, 0, 0, 1]


def test_a_mixture_that_draws_nothing_is_refused_with_what_would_draw():
    rarely = listed(pack(4, 5, 6)).seen(np.full(3, 1e-6))
    with pytest.raises(
        ValueError, match=r"3e-06 of 3 sequences seen in an epoch, and epochs: 2 draws none.*tune\.mixture"
    ):
        lay_out(rarely, TASKS, (), Training(pack_tokens=16, epochs=2))


def test_what_processes_cannot_share_evenly_is_counted(monkeypatch):
    sequences, plan = [*pack(16, 16), *pack(8, 8)], Training(pack_tokens=16, epochs=1)
    assert lay_out(sequences, TASKS, (), plan).left_out == (0, 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    shared = lay_out(sequences, TASKS, (), plan)
    packs, count = shared.left_out
    assert (packs, len(shared.packs)) == (1, 2)
    assert shared.packs.counts.sum() + count == len(sequences)
