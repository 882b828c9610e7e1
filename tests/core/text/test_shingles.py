"""Shingles are those of words and n-grams, similarities are exact, and no pair above the threshold is missed but by MinHash."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text import shingles
from tests.core.text.pairs import similar_pairs
from tests.core.text.reference import words

WORDS = st.lists(st.sampled_from(["a", "B", "ß", "1", "_", "日", "本", "é", "-", "zz"]), max_size=12)
TEXTS = st.lists(WORDS.map(" ".join), min_size=1, max_size=8)


def shingled(texts, length):
    return shingles.shingle(shingles.hash_words(texts), length)


def similar(sets, **options):
    return similar_pairs(sets, 0.7, [0] * len(sets), **options)


def plain(text, length=3):
    return {tuple(run) for run in zip(*(words(text)[start:] for start in range(length)), strict=False)}


@given(TEXTS)
def test_each_text_has_as_many_shingles_as_it_has_different_runs(texts):
    sets = shingled(texts, 3)
    assert sets.sizes.tolist() == [len(plain(text)) for text in texts]
    for number, text in enumerate(texts):
        own = set(sets.take(np.array([number])).hashes.tolist())
        assert len(own) == len(plain(text))
        for other, content in enumerate(texts):
            common = own & set(sets.take(np.array([other])).hashes.tolist())
            assert len(common) == len(plain(text) & plain(content))


@given(TEXTS)
def test_similarities_are_those_of_the_sets(texts):
    sets = shingled(texts, 1)
    texts = [text for text, size in zip(texts, sets.sizes, strict=True) if size]
    sets = sets.take(np.flatnonzero(sets.sizes))
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(len(texts))], dtype=np.int64).reshape(-1, 2)
    expected = [
        len(plain(texts[a], 1) & plain(texts[b], 1)) / len(plain(texts[a], 1) | plain(texts[b], 1)) for a, b in pairs
    ]
    assert shingles.jaccard(sets, pairs).tolist() == expected


def random_texts(count, length=60, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in draw.integers(0, 5000, length)) for _ in range(count)]


@pytest.mark.parametrize("block", [100, 50_000])
def test_planted_pairs_are_found_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(shingles, "BLOCK", block)
    texts = random_texts(300)
    copies = [f"another {text.partition(' ')[2]}" for text in texts[:100]]  # share 57 of 59 shingles
    pairs = similar(shingled([*texts, *copies], 3))
    assert pairs.tolist() == [[number, 300 + number] for number in range(100)]


def test_recall_is_what_the_bands_promise():
    # Copies with a run of words replaced have similarities on both sides of the threshold.
    draw = np.random.default_rng(1)
    texts, copies = random_texts(2000, seed=2), []
    for text in texts:
        words = text.split()
        size = int(draw.integers(4, 12))
        words[20 : 20 + size] = [f"x{number}" for number in draw.integers(0, 5000, size)]
        copies.append(" ".join(words))
    sets = shingled([*texts, *copies], 3)
    planted = np.stack([np.arange(2000), np.arange(2000) + 2000], axis=1)
    alike = planted[shingles.jaccard(sets, planted) >= 0.7]
    assert 300 < len(alike) < 2000
    found = {tuple(pair) for pair in similar(sets).tolist()}
    assert found <= {tuple(pair) for pair in alike.tolist()}
    assert len(found) >= 0.998 * len(alike)


def test_a_large_group_makes_pairs_in_proportion_to_its_size():
    sets = shingled(["the same words in every one of these texts"] * 500, 3)
    pairs = similar(sets, most=5)
    assert {later for _, later in pairs.tolist()} == set(range(1, 500))
    assert len(pairs) == sum(500 - 1 - place for place in range(5))


def test_no_text_and_empty_texts_have_no_pairs():
    assert len(shingled([], 3)) == 0
    assert shingled(["", "a b"], 3).sizes.tolist() == [0, 0]
    assert similar(shingled([], 3)).shape == (0, 2)


KEYS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=50).map(lambda keys: np.array(keys, np.uint64))


@given(KEYS)
def test_keys_that_stand_in_several_places_may_repeat(keys):
    places = shingles.may_repeat(keys).tolist()
    several = [place for place, key in enumerate(keys) if np.count_nonzero(keys == key) > 1]
    assert set(several) <= set(places)
    assert places == sorted(set(places))


@given(KEYS, KEYS)
def test_all_known_hashes_may_be_among_the_known(known, hashes):
    assert not (np.isin(hashes, known) & ~shingles.may_be_among(known, hashes)).any()


def test_few_others_pass():
    """Of single keys one in five shares a slot with another."""
    keys = np.random.default_rng(0).integers(0, 2**64, 40_000, dtype=np.uint64)
    assert len(shingles.may_repeat(keys)) < 0.25 * len(keys)
    assert shingles.may_be_among(keys[:20_000], keys[20_000:]).mean() < 0.25


@given(KEYS, st.floats(0, 4))
def test_frequent_hashes_stand_in_more_places_than_the_limit(hashes, limit):
    counted = {key for key in hashes.tolist() if np.count_nonzero(hashes == np.uint64(key)) > limit}
    assert shingles.frequent_hashes(hashes, limit).tolist() == sorted(counted)
