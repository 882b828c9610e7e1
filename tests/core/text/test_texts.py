"""Very many texts are compared in blocks and buckets as few are in memory: the same pairs, whatever is spilled to disk."""

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.text import arrays, contamination, near_duplicates, shingles
from tasks.core.text.arrays import Buckets
from tasks.core.text.contamination import find_overlaps, overlaps
from tasks.core.text.contamination_config import Contamination
from tasks.core.text.near_duplicates import Limits, find_near_duplicates
from tasks.core.text.texts import Selection, Texts, apply_here
from tests.core.text.pairs import similar_pairs

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), max_size=40)
LIMITS = Limits(similarity=0.6, length=3, fewest=3, template=1000)


@pytest.fixture
def small(monkeypatch):
    """Make every part of the machinery so small that a few texts fill several of it."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 64)
    monkeypatch.setattr(near_duplicates, "CLASSES_AT_ONCE", 3)
    monkeypatch.setattr(near_duplicates, "PAIRS_HELD", 4)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 5)
    monkeypatch.setattr(contamination, "RUNS_AT_ONCE", 20)
    monkeypatch.setattr(contamination, "TEXTS_AT_ONCE", 2)


def in_blocks(contents, sizes):
    """The texts in blocks of these sizes, in turn, and all the rest in one."""
    texts, start = Texts([], []), 0
    for size in [*sizes, len(contents)]:
        texts += Texts.of(contents[start : start + size])
        start += size
    return texts


def apply_apart(function, items, number):
    """Apply a function as another process does: function, items and results are pickled."""
    apart = pickle.dumps(function)
    return [pickle.loads(pickle.dumps(pickle.loads(apart)(pickle.loads(pickle.dumps(item))))) for item in items]


def alike(contents, share, seed):
    """`contents` texts, of which a share are copies of another one with a few words changed."""
    draw = np.random.default_rng(seed)
    texts = [[f"w{word}" for word in draw.integers(0, 400, 30)] for _ in range(contents)]
    for number in range(1, contents):
        if draw.random() < share:
            texts[number] = list(texts[draw.integers(0, number)])
            for place in draw.integers(0, 30, draw.integers(0, 4)):
                texts[number][place] = f"x{draw.integers(0, 400)}"
    return [" ".join(words) for words in texts]


@given(ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bucket_gives_its_rows_in_order_whether_they_were_spilled_or_not(tmp_path_factory, rows):
    for limit in (0, 30, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrays, "IN_MEMORY", limit)
            filled = Buckets(tmp_path_factory.mktemp("buckets") / "folder", np.int64)
            for start in range(0, len(rows), 7):
                part = np.array(rows[start : start + 7], np.int64).reshape(-1, 2)
                filled.scatter(part[:, 0], part[:, 1])
            for number in range(5):
                assert filled.take(number).tolist() == [value for key, value in rows if key == number]
                assert len(filled.take(number)) == 0


def near_pairs(texts, folder, **options):
    """All pairs of near-duplicate texts."""
    ranks = np.zeros(len(texts), np.int8)
    likeness = find_near_duplicates(Selection.all(texts), LIMITS, ranks, folder, **options)
    near = {(a, b) for a, b in likeness.pairs.tolist()} | {(b, a) for a, b in likeness.pairs.tolist()}
    classes = likeness.classes.tolist()
    return {
        (first, later)
        for later in range(len(texts))
        for first in range(later)
        if min(classes[first], classes[later]) >= 0
        and (classes[first] == classes[later] or (classes[first], classes[later]) in near)
    }


@pytest.mark.parametrize("apply", [apply_here, apply_apart])
@pytest.mark.parametrize("sizes", [[], [7, 1, 0, 20], [3] * 10])
def test_near_duplicates_are_those_of_texts_in_memory(small, tmp_path, sizes, apply):
    contents = alike(60, 0.5, seed=1)
    sets = shingles.shingle(shingles.hash_words(contents), 3)
    expected = {(a, b) for a, b in similar_pairs(sets, 0.6, [0] * 60).tolist()}
    assert len(expected) > 20
    assert near_pairs(in_blocks(contents, sizes), tmp_path, apply=apply) == expected


def test_the_similarity_of_two_texts_is_that_of_their_sets_and_0_below_the_limit(small, tmp_path):
    contents = [*alike(60, 0.5, seed=1), "too short"]
    contents += contents[:2]
    likeness = find_near_duplicates(Selection.all(Texts.of(contents)), LIMITS, np.zeros(63, np.int8), tmp_path)
    sets = shingles.shingle(shingles.hash_words(contents), 3)
    pairs = np.array([(a, b) for a in range(63) for b in range(63) if 60 not in (a, b)])
    expected = shingles.jaccard(sets, pairs)
    assert likeness.similarity(*pairs.T).tolist() == np.where(expected >= 0.6, expected, 0).tolist()
    assert likeness.similarity(np.array([60, 0]), np.array([60, 60])).tolist() == [0, 0]


@pytest.mark.parametrize("apply", [apply_here, apply_apart])
def test_common_shingles_are_counted_over_all_blocks(tmp_path, apply):
    contents = [f"please rate this film number {number}" for number in range(9)] + alike(30, 0, seed=2)
    limits = Limits(0.6, 3, 3, template=8)
    for sizes in ([], [2, 2, 30], [1] * 39):
        selection = Selection.all(in_blocks(contents, sizes))
        assert len(near_duplicates.common_shingles(selection, limits, apply)) == 3
    nine = Limits(0.6, 3, 3, template=9)
    assert len(near_duplicates.common_shingles(selection, nine)) == 0


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=30),
    st.lists(st.integers(1, 6), max_size=8),
    st.floats(0.5, 12),
)
def test_common_shingles_are_those_of_counting_every_one(texts, sizes, limit):
    contents = [" ".join(f"w{word}" for word in words) for words in texts]
    sets = [set(shingles.shingle(shingles.hash_words([content]), 2).hashes.tolist()) for content in contents]
    counts = {hash: sum(hash in one for one in sets) for one in sets for hash in one}
    expected = sorted(hash for hash, count in counts.items() if count > limit)
    listed = near_duplicates.common_shingles(Selection.all(in_blocks(contents, sizes)), Limits(0.6, 2, 1, limit))
    assert listed.tolist() == expected


@pytest.mark.parametrize("apply", [apply_here, apply_apart])
def test_a_shingle_that_a_block_hardly_holds_is_counted_there_too(apply):
    held = [1] * 5 + [0] * 15, [1] + [0] * 19
    contents = [f"{'please rate it' if holds else ''} {n} a{n}" for n, holds in enumerate([*held[0], *held[1]])]
    selection = Selection.all(in_blocks(contents, [20]))
    for limit, number in ((5, 1), (6, 0)):
        assert len(near_duplicates.common_shingles(selection, Limits(0.6, 3, 1, limit), apply)) == number


def test_equal_texts_take_no_place_among_the_most_that_are_compared(tmp_path):
    text = "one two three four five six seven eight nine ten eleven twelve"
    texts = Texts.of([text] * 50 + [f"{text} thirteen", f"{text} fourteen"])
    assert len(near_pairs(texts, tmp_path, most=2)) == 52 * 51 / 2


def test_only_selected_texts_are_compared(small, tmp_path):
    contents = alike(40, 0.6, seed=3)
    numbers = np.arange(1, 40, 2)
    chosen = Selection(in_blocks(contents, [9, 9, 9]), numbers)
    likeness = find_near_duplicates(chosen, LIMITS, np.zeros(20, np.int8), tmp_path)
    alone = Selection.all(Texts.of([contents[number] for number in numbers]))
    expected = find_near_duplicates(alone, LIMITS, np.zeros(20, np.int8), tmp_path / "alone")
    assert likeness.classes.tolist() == expected.classes.tolist()
    assert likeness.pairs.tolist() == expected.pairs.tolist()


@pytest.mark.parametrize("apply", [apply_here, apply_apart])
@pytest.mark.parametrize("sizes", [[], [7, 1, 0, 20], [3] * 10])
def test_overlaps_are_those_of_texts_in_memory(small, tmp_path, sizes, apply):
    params = Contamination(ngram=6, share=0.3, common=4)
    training, evaluation = alike(40, 0.5, seed=4), alike(30, 0.2, seed=5)
    for number in range(0, 20, 2):
        training[number] += " " + evaluation[number]
        training[number + 1] += " " + evaluation[3]  # of which nine training texts hold a copy: phrases
        training[number + 1] = " ".join(training[number + 1].split()[-8 if number % 4 else 0 :])
    expected = plain_overlaps(training, evaluation, params)
    assert 8 < len(expected) < 20
    selections = (Selection.all(in_blocks(contents, sizes)) for contents in (training, evaluation))
    pairs = find_overlaps(*selections, params, tmp_path, apply=apply)
    assert pairs == expected == overlaps(training, evaluation, params)


def plain_overlaps(training, evaluation, params):
    """The definition, in sets of words."""

    def runs(text, size):
        words = text.split()
        return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}

    best = {}
    for size in (params.ngram, params.ngram // 2):
        train, held_out = ([runs(text, size) for text in texts] for texts in (training, evaluation))
        known = set().union(*held_out)
        phrases = {run for run in known if sum(run in each for each in train) > params.common}
        for a, b in np.ndindex(len(train), len(held_out)):
            is_short = min(len(training[a].split()), len(evaluation[b].split())) < 2 * params.ngram
            first, second = train[a] - phrases, held_out[b] - phrases
            common, smaller = len(first & second), min(len(first), len(second))
            if is_short == (size < params.ngram) and common >= 3 and common >= params.share * smaller:
                best[a] = max(best.get(a, (0, 0)), (common / smaller, b))
    return {a: best[a][1] for a in sorted(best)}
