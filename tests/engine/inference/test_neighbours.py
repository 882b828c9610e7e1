"""The nearest of every row are those of the whole matrix of cosines, which is never made."""

import numpy as np
import pytest

from tasks.engine.inference.neighbours import nearest


def vectors(count, width=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def by_hand(rows, k):
    unit = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, :k]
    return np.take_along_axis(cosines, order, axis=1), order


def test_they_are_those_of_the_whole_matrix():
    rows = vectors(300)
    cosines, places = nearest(rows, 5, exact_up_to=300)
    expected, order = by_hand(rows, 5)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)
    np.testing.assert_array_equal(places, order)


def test_copies_are_each_others_neighbours_and_nobody_is_their_own():
    rows = np.repeat(vectors(1), 6, axis=0)
    cosines, places = nearest(np.concatenate([rows, vectors(4, seed=1)]), 2, exact_up_to=100)
    np.testing.assert_allclose(cosines[:6], 1.0, atol=1e-6)
    assert not (places == np.arange(10)[:, None]).any()


@pytest.mark.parametrize(("count", "width"), [(1, 0), (0, 0), (2, 1), (3, 2)])
def test_there_are_at_most_as_many_as_there_are_others(count, width):
    cosines, places = nearest(vectors(count), 5, exact_up_to=100)
    assert cosines.shape == places.shape == (count, width)


def test_an_index_of_cells_finds_nearly_all_of_them():
    centres = vectors(40, seed=1)
    rows = np.concatenate([centres + 0.1 * vectors(40, seed=seed) for seed in range(2, 52)])
    _, exact = nearest(rows, 3, exact_up_to=len(rows))
    _, found = nearest(rows, 3, exact_up_to=100)
    assert np.mean([len(set(a) & set(b)) / 3 for a, b in zip(exact, found, strict=True)]) > 0.95
    np.testing.assert_array_equal(found, nearest(rows, 3, exact_up_to=100)[1])


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_a_row_without_a_direction_is_named(wrong):
    rows = vectors(4)
    rows[2] = wrong
    with pytest.raises(ValueError, match="row 2 has no direction"):
        nearest(rows, 1, exact_up_to=100)
