"""Keys bind, sums bundle, cosines compare: the operations of hyperdimensional computing, and those of HDFF by their published code."""

import numpy as np
import pytest
import torch

from tasks.methods import hyperdimensional
from tests.methods import official

STATES = np.random.default_rng(0).normal(size=(6, 3, 8)).astype(np.float32)
SPACE = hyperdimensional.space(3, 8, 256)


def test_a_projection_has_orthonormal_rows_and_keeps_lengths_whatever_key_binds_it():
    np.testing.assert_allclose(SPACE.projection_HD @ SPACE.projection_HD.T, np.eye(8), atol=1e-5)
    for layer, key_D in enumerate(SPACE.keys_LD):
        bound = hyperdimensional.bind(STATES[:, layer] @ SPACE.projection_HD, key_D)
        np.testing.assert_allclose(np.linalg.norm(bound, axis=1), np.linalg.norm(STATES[:, layer], axis=1), rtol=1e-4)


def test_what_is_bound_to_another_key_is_far_from_it():
    first, second = (hyperdimensional.bind(STATES[:1, 0] @ SPACE.projection_HD, key) for key in SPACE.keys_LD[:2])
    assert abs(hyperdimensional.cosines(first, second)[0, 0]) < 0.25
    np.testing.assert_array_equal(hyperdimensional.bind(first, SPACE.keys_LD[0] * SPACE.keys_LD[1]), second)


def test_one_seed_has_one_space_and_another_has_another():
    hyperdimensional.space.cache_clear()
    again, other = hyperdimensional.space(3, 8, 256), hyperdimensional.space(3, 8, 256, seed=1)
    np.testing.assert_array_equal(again.projection_HD, SPACE.projection_HD)
    np.testing.assert_array_equal(again.keys_LD, SPACE.keys_LD)
    assert not np.array_equal(other.projection_HD, SPACE.projection_HD)


def test_the_bundle_of_all_is_the_sum_of_bundles_in_any_order():
    vectors = SPACE.describe(STATES)
    whole = hyperdimensional.bundle(vectors)
    parts = hyperdimensional.bundles(vectors, ["a", "b", "a", "a", "b", "c"])
    np.testing.assert_allclose(parts.sum(axis=0), whole, atol=1e-4)
    np.testing.assert_allclose(hyperdimensional.bundle(vectors[::-1]), whole, atol=1e-4)
    np.testing.assert_allclose(6 * SPACE.describe(STATES.mean(axis=0, keepdims=True))[0], whole, atol=1e-4)


def test_the_operations_are_those_of_hdff():
    given = official.frozen("hdc")
    x, y, z = (official.wave(rows, 6, phase=phase).float().numpy() for rows, phase in ((4, 0), (3, 1), (4, 2)))
    same = {
        "bundle": hyperdimensional.bundle(np.stack([x, z])),
        "bulk_bundle": hyperdimensional.bundle(x),
        "bind": hyperdimensional.bind(x, z),
        "similarity": hyperdimensional.cosines(x, y),
        "farness": -hyperdimensional.cosines(x, y).max(axis=1),
    }
    official.same({name: torch.from_numpy(value) for name, value in same.items()}, given["values"])


def test_nothing_has_no_direction():
    assert hyperdimensional.cosines(np.zeros((1, 4)), np.ones((1, 4))).tolist() == [[0.0]]
    same = np.full((3, 4), 7.0)
    assert not hyperdimensional.standardised(same, same.mean(axis=0), same.std(axis=0)).any()


def test_a_space_smaller_than_a_state_is_refused():
    with pytest.raises(ValueError, match="hypervectors of 7 numbers are shorter than hidden states of 8"):
        hyperdimensional.space(3, 8, 7)
