"""Near-duplicates are merged by classes of equal texts as they would be pair by pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text.near_duplicates import Likeness
from tasks.stages.ingest.filtering.duplicates import merge_classes


def merge_pairs(pairs, ranks):
    """The rule: by rank, then by order, each is kept unless one that is kept is alike; of those it names the first."""
    kept, removed = set(), {}
    for position in sorted(range(len(ranks)), key=lambda position: (ranks[position], position)):
        twins = [other for other in kept if (min(other, position), max(other, position)) in pairs]
        if twins:
            removed[position] = min(twins)
        else:
            kept.add(position)
    return removed


@st.composite
def likenesses(draw, number):
    """One side of so many texts: their classes, and the classes that are alike."""
    num_classes = draw(st.integers(1, number))
    classes = draw(st.lists(st.integers(-1, num_classes - 1), min_size=number, max_size=number))
    names = st.integers(0, num_classes - 1)
    alike = sorted(draw(st.sets(st.tuples(names, names).filter(lambda pair: pair[0] < pair[1]), max_size=6)))
    return Likeness(np.array(classes), np.array(alike, np.int64).reshape(-1, 2), np.ones(len(alike)))


def alike_pairs(side):
    """Every pair of texts that one side holds for alike."""
    near, classes = {tuple(pair) for pair in side.pairs.tolist()}, side.classes.tolist()
    compared = [place for place, number in enumerate(classes) if number >= 0]
    return {
        (a, b)
        for a in compared
        for b in compared
        if a < b and (classes[a] == classes[b] or tuple(sorted((classes[a], classes[b]))) in near)
    }


@given(st.data(), st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 2))
def test_merging_by_classes_is_merging_by_all_their_pairs(data, ranks, num_sides):
    """Judgements of answers to one prompt are no duplicates of each other, and what has rank 0 stays."""
    number = len(ranks)
    places = st.integers(0, number - 1)
    sides = [data.draw(likenesses(number)) for _ in range(num_sides)]
    embedded = data.draw(st.sets(st.tuples(places, places).filter(lambda pair: pair[0] < pair[1]), max_size=8))
    prompts = data.draw(st.lists(st.integers(0, 2), min_size=number, max_size=number))

    def is_pair(a, b):
        return not prompts[a] or prompts[a] != prompts[b]

    embedded = {pair for pair in embedded if is_pair(*pair)}
    pairs = {(a, b) for a, b in embedded.union(*map(alike_pairs, sides)) if is_pair(a, b) and (ranks[a] or ranks[b])}
    given_pairs = np.array(sorted(embedded), np.int64).reshape(-1, 2)
    merged = merge_classes(sides, given_pairs, np.array(ranks, np.int8), np.array(prompts, np.uint64))
    assert merged == merge_pairs(pairs, ranks)


def test_a_rescued_text_is_kept_beside_one_of_its_own_split_alone():
    equal = Likeness(np.array([0, 1, 1, 0]), np.zeros((0, 2), np.int64), np.zeros(0))
    ranks, prompts = np.array([1, 4, 4, 4], np.int8), np.zeros(4, np.uint64)
    nothing = np.zeros((0, 2), np.int64)
    assert merge_classes([equal], nothing, ranks, prompts) == {2: 1, 3: 0}
    assert merge_classes([equal], nothing, ranks, prompts, np.ones(4, bool)) == {3: 0}  # text 0 is evaluated by


def test_what_is_like_a_rescued_text_of_another_split_is_removed():
    ranks, prompts = np.array([1, 1, 4], np.int8), np.zeros(3, np.uint64)
    chain = np.array([[0, 1], [1, 2]])
    assert merge_classes([], chain, ranks, prompts) == {1: 0}
    assert merge_classes([], chain, ranks, prompts, np.array([False, True, False])) == {2: 1}
