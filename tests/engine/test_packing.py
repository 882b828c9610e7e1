"""No token is lost, none is trained twice, none under another's weight."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.sequences import IGNORE, Column, Encoded
from tasks.engine.packing import Pack, by_budget, collate, fill, schedule
from tests import tiny

SIZE = 20


@st.composite
def encoded(draw, longest=SIZE):
    number = draw(st.integers(0, 10**9))
    ids = draw(st.lists(st.integers(0, 999), min_size=1, max_size=longest))
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=len(ids), max_size=len(ids)))
    return Encoded(str(number), ids, weights)


def batches(**options):
    return st.lists(encoded(**options), max_size=25)


def flat(packs):
    return [sequence for pack in packs for sequence in pack.sequences]


def counted(sequences):
    return Counter((s.id, tuple(s.ids), tuple(s.weights)) for s in sequences)


@given(batches())
def test_every_sequence_is_in_exactly_one_pack(sequences):
    assert counted(flat(fill(sequences, SIZE))) == counted(sequences)


@given(batches())
def test_no_pack_is_over_its_size_or_empty(sequences):
    assert all(0 < len(pack) <= SIZE for pack in fill(sequences, SIZE))


@given(batches())
def test_no_two_packs_could_share_a_row(sequences):
    # Best fit opens a pack only where nothing open has room, so any two packs together are over the size.
    lengths = sorted(len(pack) for pack in fill(sequences, SIZE))
    assert len(lengths) < 2 or lengths[0] + lengths[1] > SIZE


def test_a_sequence_that_no_pack_can_hold_is_named():
    with pytest.raises(ValueError, match=r"example long has 21 tokens and no pack of 20"):
        fill([Encoded("long", [1] * 21, [1.0] * 21)], SIZE)


@given(batches(), st.integers(1, 3), st.integers(0, 5))
def test_a_schedule_within_its_tokens_holds_every_sequence_once_an_epoch(sequences, epochs, seed):
    packs = schedule(sequences, SIZE, 10**6, epochs, seed)
    assert counted(flat(packs)) == counted(list(sequences) * epochs)


def plainly_filled(sequences, size):
    """Best fit, longest first, by looking at every pack."""
    packs = []
    for sequence in sorted(sequences, key=len, reverse=True):
        rooms = [size - sum(map(len, pack)) for pack in packs]
        fitting = [number for number, room in enumerate(rooms) if room >= len(sequence)]
        if fitting:
            packs[min(fitting, key=rooms.__getitem__)].append(sequence)
        else:
            packs.append([sequence])
    return packs


def plainly_scheduled(sequences, size, max_tokens, epochs, seed):
    packs = []
    for epoch in range(epochs):
        order, draw = random.Random(f"{seed}/{epoch}"), random.Random(f"{seed}/{epoch}/passes")
        shuffled, totals, seen = list(sequences), {}, []
        order.shuffle(shuffled)
        for sequence in shuffled:
            before = totals.setdefault(sequence.passes, draw.random())
            totals[sequence.passes] = before + sequence.passes
            times = math.floor(totals[sequence.passes]) - math.floor(before)
            seen += [sequence] * (1 if sequence.passes == 1 else times)
        filled = plainly_filled(seen, size)
        order.shuffle(filled)
        for pack in filled:
            if packs and sum(map(len, flat_lists(packs))) + sum(map(len, pack)) > max_tokens:
                return packs
            packs.append(pack)
    return packs


def flat_lists(packs):
    return [sequence for pack in packs for sequence in pack]


@given(batches())
def test_packs_are_those_of_a_plain_best_fit(sequences):
    assert [list(pack.sequences) for pack in fill(sequences, SIZE)] == plainly_filled(sequences, SIZE)


@given(batches(), st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.5]), min_size=25), st.integers(1, 200), st.integers(0, 9))
def test_a_schedule_is_that_of_plain_lists(sequences, passes, max_tokens, seed):
    sequences = [replace(one, passes=times) for one, times in zip(sequences, passes, strict=False)]
    packs = [list(pack.sequences) for pack in schedule(sequences, SIZE, max_tokens, 3, seed)]
    assert packs == plainly_scheduled(sequences, SIZE, max_tokens, 3, seed)


@given(batches(), st.integers(1, 100), st.integers(1, 3))
def test_a_schedule_ends_before_its_tokens_are_spent_but_is_never_empty(sequences, max_tokens, epochs):
    packs = schedule(sequences, SIZE, max_tokens, epochs, seed=0)
    assert bool(packs) == bool(sequences)
    assert len(packs) <= 1 or sum(map(len, packs)) <= max_tokens


@given(batches(), st.integers(1, 100))
def test_fewer_tokens_are_a_shorter_schedule_and_not_another(sequences, max_tokens):
    short, long = (list(schedule(sequences, SIZE, tokens, 2, seed=0)) for tokens in (max_tokens, 10**6))
    assert short == long[: len(short)]


def test_the_order_of_a_schedule_is_a_function_of_its_seed():
    sequences = tiny.sequences(40, longest=SIZE)
    first, again, other = (list(schedule(sequences, SIZE, 10**6, 1, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_each_epoch_has_an_order_of_its_own():
    sequences = tiny.sequences(40, longest=SIZE)
    packs = list(schedule(sequences, SIZE, 10**6, 2, seed=0))
    once = list(schedule(sequences, SIZE, 10**6, 1, seed=0))
    assert packs[: len(once)] == once
    assert packs[len(once) :] != once


@given(st.lists(encoded(), min_size=1, max_size=6))
def test_a_row_can_be_taken_apart_again(sequences):
    row = collate([Pack(tuple(sequences))])
    edges = row["boundaries"].tolist()
    assert edges[-1] == row["input_ids"].shape[1]
    assert edges[0] == 0
    for number, (sequence, (start, end)) in enumerate(zip(sequences, pairwise(edges), strict=True)):
        assert row["input_ids"][0, start:end].tolist() == sequence.ids
        assert row["position_ids"][0, start:end].tolist() == list(range(len(sequence)))
        assert row["segments"][0, start:end].tolist() == [number] * len(sequence)


@given(st.lists(encoded(), min_size=1, max_size=6))
def test_each_weighted_token_is_predicted_once_under_its_own_weight(sequences):
    row = collate([Pack(tuple(sequences))])
    labels, weights, segments = (row[name][0].tolist() for name in ("labels", "weights", "segments"))
    found = [(segments[t], labels[t], weights[t]) for t in range(len(labels)) if labels[t] != IGNORE]
    expected = [
        (number, token, weight)
        for number, sequence in enumerate(sequences)
        for token, weight in list(zip(sequence.ids, sequence.weights, strict=True))[1:]
        if weight > 0
    ]
    assert found == expected


@given(st.lists(encoded(), min_size=1, max_size=6))
def test_no_sequence_predicts_the_next_ones_first_token(sequences):
    row = collate([Pack(tuple(sequences))])
    last = [edge - 1 for edge in row["boundaries"].tolist()[1:]]
    assert row["labels"][0, last].tolist() == [IGNORE] * len(sequences)
    assert row["weights"][0, last].tolist() == [0.0] * len(sequences)


def test_trainer_counts_the_labels_that_are_trained():
    row = collate([Pack((Encoded("a", [5, 6, 7], [0.0, 0.0, 1.0]), Encoded("b", [8, 9], [0.0, 2.0])))])
    assert row["labels"].tolist() == [[IGNORE, 7, IGNORE, 9, IGNORE]]
    assert row["shift_labels"].tolist() == row["labels"].tolist()
    assert row["weights"].tolist() == [[0.0, 1.0, 0.0, 2.0, 0.0]]


@given(batches(longest=30), st.integers(1, 60))
def test_scoring_packs_hold_every_sequence_once_and_no_more_than_their_tokens(sequences, max_tokens):
    packs = list(by_budget(sequences, max_tokens))
    assert counted(flat(packs)) == counted(sequences)
    assert all(len(pack.sequences) == 1 or len(pack) <= max_tokens for pack in packs)


COLUMNS = (Column("marks"), Column("reference", fill=-1.0))


def owning(sequence, *auxiliary):
    """The sequence with a column of its places, and auxiliary sequences that have one too."""
    with_marks = [replace(s, columns={"marks": range(len(s))}) for s in (sequence, *auxiliary)]
    return replace(with_marks[0], auxiliary=tuple(with_marks[1:]))


def test_a_column_stands_where_the_label_does_and_is_filled_where_a_sequence_lacks_it():
    first, second = tiny.sequences(2, seed=2)
    second = replace(owning(second), task="b")
    second = replace(second, columns={**second.columns, "reference": [0.5] * len(second)})
    row = collate([Pack((first, second))], columns=COLUMNS)
    assert row["column_marks"].tolist() == [[0] * len(first) + [*range(1, len(second)), 0]]
    assert row["column_reference"].tolist() == [[-1.0] * len(first) + [0.5] * (len(second) - 1) + [-1.0]]
    assert (row["column_marks"].dtype, row["column_reference"].dtype) == (torch.int64, torch.float32)
    assert not any(name.startswith("column_") for name in collate([Pack((first, second))]))


def test_auxiliary_sequences_make_a_row_of_their_own_and_know_whose_they_are():
    alone, *others = (replace(s, number=7 + n) for n, s in enumerate(tiny.sequences(3, seed=2)))
    further = tiny.sequences(2, seed=4)
    owners = [owning(*both) for both in zip(others, further, strict=True)]
    row = collate([Pack((alone, *owners))], columns=COLUMNS)
    assert row["numbers"].tolist() == [7, 8, 9]
    assert row["auxiliary_owners"].tolist() == [1, 2]
    assert row["auxiliary_input_ids"][0].tolist() == [token for sequence in further for token in sequence.ids]
    shifted = [[*range(1, len(sequence)), 0] for sequence in further]
    assert row["auxiliary_column_marks"][0].tolist() == [mark for marks in shifted for mark in marks]
    assert not any(name.startswith("auxiliary_") for name in collate([Pack((alone,))]))


def test_a_sequence_can_have_several_auxiliary_ones():
    first, second, third = tiny.sequences(3, seed=3)
    row = collate([Pack((owning(second, third), owning(first, second, third)))])
    assert row["auxiliary_owners"].tolist() == [0, 1, 1]
    assert row["auxiliary_boundaries"].diff().tolist() == [len(sequence) for sequence in (third, second, third)]


@pytest.mark.parametrize("passes", [0.0, 0.3, 1.0, 2.5])
def test_a_sequence_is_seen_as_often_as_it_says_to_one(passes):
    sequences = [replace(sequence, passes=passes) for sequence in tiny.sequences(40, longest=SIZE)]
    seen = Counter(sequence.id for sequence in flat(schedule(sequences, SIZE, 10**6, 1, seed=0)))
    assert abs(sum(seen.values()) - 40 * passes) < 1
    assert all(abs(seen[sequence.id] - passes) < 1 for sequence in sequences)


def test_where_a_share_of_passes_begins_is_drawn():
    one = [Encoded("one", [1, 2], [1.0, 1.0], passes=0.5)]
    seen = [len(schedule(one, SIZE, 10**6, 1, seed)) for seed in range(40)]
    assert 10 <= sum(seen) <= 30


def test_a_token_has_the_number_of_its_task():
    sequences = [Encoded(str(n), [1, 2], [1.0, 1.0], task=task) for n, task in enumerate(("sums", "words", "sums"))]
    assert collate([Pack(tuple(sequences))], ("words", "sums"))["tasks"].tolist() == [[1, 1, 0, 0, 1, 1]]
