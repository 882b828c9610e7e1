"""Duplicates are found, unrelated texts are not, and of two duplicates the one with the lower rank is kept."""

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.stages.ingest.config import NearDuplicates
from tasks.stages.ingest.filtering import duplicates

PARAMS = NearDuplicates()
WORDS = [f"word{number}" for number in range(1000)]


def passage(seed, length=60):
    return list(np.random.default_rng(seed).choice(WORDS, length))


def pairs(contents, threshold=0.7, ranks=None):
    texts = duplicates.comparable([" ".join(content) for content in contents], PARAMS)
    return duplicates.jaccard_pairs(texts, threshold, ranks or [0] * len(contents))


def test_a_planted_near_duplicate_is_found_among_strangers():
    contents = [passage(seed) for seed in range(200)]
    copy = list(contents[17])
    copy[30] = "changed"
    assert pairs([*contents, copy]) == {(17, 200)}


def test_the_shingles_decide_and_not_the_estimate():
    first = passage(0, length=32)  # 30 shingles
    second = [*first[:24], *passage(1, length=8)]  # shares 22 of 38: 0.58
    assert pairs([first, second], threshold=0.7) == set()
    assert pairs([first, second], threshold=0.57) == {(0, 1)}


def test_a_wording_that_many_share_makes_no_duplicates():
    asked = passage(1000, length=90)
    contents = [[*asked, *passage(seed, length=10)] for seed in range(30)]
    assert pairs(contents) == set()
    assert pairs(contents[:5]) == {(a, b) for b in range(5) for a in range(b)}  # of so few it may be a copy


def test_of_very_many_texts_alike_the_held_out_one_is_kept_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(duplicates.shingles, "similar_pairs", partial(duplicates.shingles.similar_pairs, most=5))
    monkeypatch.setattr(duplicates, "FEW", 1000)  # else their common words are a template's
    contents = [["one", "text", *passage(0, length=30), f"end{number}"] for number in range(40)]
    ranks = [duplicates.RANKS["test" if number == 33 else "train"] for number in range(40)]
    removed = duplicates.merge_duplicates(pairs(contents, ranks=ranks), ranks)
    assert set(removed) == set(range(40)) - {33}


def test_short_texts_are_in_no_pair():
    assert pairs([["a", "b", "c"], ["a", "b", "c"]]) == set()


def test_nothing_at_all_has_no_pairs():
    assert pairs([]) == set()


def test_cosine_pairs_are_those_above_the_threshold():
    angles = np.array([0.0, 0.1, 1.5], dtype=np.float32)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert duplicates.cosine_pairs(vectors, threshold=0.99) == {(0, 1)}


def test_cosine_pairs_cross_the_blocks(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 2)
    vectors = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 0, 3]]
    assert duplicates.cosine_pairs(vectors, threshold=0.9) == {(0, 4), (3, 5)}


def test_exact_copies_point_to_the_first():
    assert duplicates.equal_positions("abcab") == {3: 0, 4: 1}


def test_the_training_copy_goes_and_within_a_split_the_later_one():
    assert duplicates.merge_duplicates({(0, 1)}, ranks=[3, 1]) == {0: 1}
    assert duplicates.merge_duplicates({(0, 1)}, ranks=[3, 3]) == {1: 0}


ranked = st.lists(st.integers(0, 3), min_size=2, max_size=12)


@given(st.data(), ranked)
def test_no_two_that_stay_are_alike_and_nothing_goes_without_a_twin_that_stays(data, ranks):
    places = st.integers(0, len(ranks) - 1)
    pairs = data.draw(st.sets(st.tuples(places, places).filter(lambda pair: pair[0] < pair[1])))
    removed = duplicates.merge_duplicates(pairs, ranks)
    assert not [pair for pair in pairs if removed.keys().isdisjoint(pair)]
    for position, twin in removed.items():
        assert twin not in removed
        assert tuple(sorted((position, twin))) in pairs
        assert ranks[twin] <= ranks[position]
