"""Duplicates are found, unrelated texts are not, and of two duplicates the one with the lower rank is kept."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text.near_duplicates import Limits, find_near_duplicates
from tasks.core.text.shingles import MOST
from tasks.core.text.texts import Selection, Texts
from tasks.stages.ingest.filtering import duplicates
from tasks.stages.ingest.filtering.duplicates import FEW, SHINGLE
from tasks.stages.ingest.near_duplicates_config import NearDuplicates

PARAMS = NearDuplicates()
WORDS = [f"word{number}" for number in range(1000)]


def passage(seed, length=60):
    return list(np.random.default_rng(seed).choice(WORDS, length))


def likeness(contents, threshold=0.7, ranks=None, few=FEW, most=MOST):
    limits = Limits(threshold, SHINGLE, PARAMS.min_words - SHINGLE + 1, max(few, PARAMS.template * len(contents)))
    texts = Selection.all(Texts.of([" ".join(content) for content in contents]))
    with TemporaryDirectory() as folder:
        ranks = np.array(ranks or [0] * len(contents), np.int8)
        return find_near_duplicates(texts, limits, ranks, Path(folder), most=most)


def pairs(contents, **options):
    alike = likeness(contents, **options)
    places = np.array([(a, b) for b in range(len(contents)) for a in range(b)], np.int64).reshape(-1, 2)
    return {(a, b) for a, b in places[alike.similarity(*places.T) > 0].tolist()}


def merged(sides, pairs, ranks):
    pairs = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return duplicates.merge_classes(sides, pairs, np.array(ranks, np.int8), np.zeros(len(ranks), np.uint64))


def test_a_planted_near_duplicate_is_found_among_strangers():
    contents = [passage(seed) for seed in range(200)]
    copy = list(contents[17])
    copy[30] = "changed"
    assert pairs([*contents, copy]) == {(17, 200)}


def test_the_shingles_decide_and_not_the_estimate():
    first = passage(0, length=32)  # 30 shingles
    second = [*first[:24], *passage(1, length=8)]  # shares 22 of 38: 0.58
    assert pairs([first, second], threshold=0.7) == set()
    assert pairs([first, second], threshold=0.585) == set(), "of two words each they would share 23 of 39"
    assert pairs([first, second], threshold=0.57) == {(0, 1)}


def test_a_wording_that_many_share_makes_no_duplicates():
    asked = passage(1000, length=90)
    contents = [[*asked, *passage(seed, length=10)] for seed in range(30)]
    assert pairs(contents) == set()
    assert pairs(contents[:5]) == {(a, b) for b in range(5) for a in range(b)}  # of so few it may be a copy


def test_what_a_text_says_again_and_again_is_no_wording_that_many_share():
    text = passage(0, length=30) * 8  # two texts hold each shingle sixteen times
    assert pairs([text, text]) == {(0, 1)}


def test_of_very_many_texts_alike_the_held_out_one_is_kept_wherever_it_stands():
    contents = [["one", "text", *passage(0, length=30), f"end{number}"] for number in range(40)]
    ranks = [duplicates.RANKS["test" if number == 33 else "train"] for number in range(40)]
    alike = likeness(contents, ranks=ranks, few=1000, most=5)  # of few their common words would be a template's
    assert set(merged([alike], (), ranks)) == set(range(40)) - {33}


def test_short_texts_are_in_no_pair():
    assert pairs([["a", "b", "c"], ["a", "b", "c"]]) == set()


def test_nothing_at_all_has_no_pairs():
    assert pairs([]) == set()


def test_cosine_pairs_are_those_above_the_threshold():
    angles = np.array([0.0, 0.1, 1.5], dtype=np.float32)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert duplicates.cosine_pairs(vectors, threshold=0.99).tolist() == [[0, 1]]


def test_cosine_pairs_cross_the_blocks(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 2)
    vectors = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 0, 3]]
    assert duplicates.cosine_pairs(vectors, threshold=0.9).tolist() == [[0, 4], [3, 5]]


def test_of_very_many_alike_each_is_in_pairs_with_the_first_ones(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    pairs = duplicates.cosine_pairs(np.ones((9, 1), np.float32), threshold=0.9, most=2).tolist()
    assert sorted(pairs, key=lambda pair: pair[::-1]) == [
        [0, 1],
        *([n, later] for later in range(2, 9) for n in (0, 1)),
    ]


def test_the_training_copy_goes_and_within_a_split_the_later_one():
    assert merged([], {(0, 1)}, ranks=[3, 1]) == {0: 1}
    assert merged([], {(0, 1)}, ranks=[3, 3]) == {1: 0}


ranked = st.lists(st.integers(1, 4), min_size=2, max_size=12)


@given(st.data(), ranked)
def test_no_two_that_stay_are_alike_and_nothing_goes_without_a_twin_that_stays(data, ranks):
    places = st.integers(0, len(ranks) - 1)
    pairs = data.draw(st.sets(st.tuples(places, places).filter(lambda pair: pair[0] < pair[1])))
    removed = merged([], pairs, ranks)
    assert not [pair for pair in pairs if removed.keys().isdisjoint(pair)]
    for position, twin in removed.items():
        assert twin not in removed
        assert tuple(sorted((position, twin))) in pairs
        assert ranks[twin] <= ranks[position]
