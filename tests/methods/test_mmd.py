"""MMD by its equation, and how well it tells planted shifts."""

import numpy as np
import pytest

from tasks.core.statistics import proportion
from tasks.methods.monitors.mmd.config import MmdConfig
from tasks.methods.monitors.mmd.method import fit, score

SMALL = {"permutations": 199}


def by_the_equation(x, y):
    """Gretton et al. 2012, eq. 3, item by item."""
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x.astype(float), y.astype(float)))
    pooled = np.concatenate([x, y])
    distances = [np.linalg.norm(a - b) for n, a in enumerate(pooled) for b in pooled[n + 1 :]]
    width = np.median(np.square(distances)) ** 0.5

    def k(a, b):
        return np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * width**2))

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_the_value_is_that_of_the_equation():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(9, 4)).astype(np.float32), random.normal(0.5, 1, size=(6, 4)).astype(np.float32)
    found = score(fit(x, "", MmdConfig(**SMALL)), y, 0)
    assert found.value == pytest.approx(by_the_equation(x, y), abs=1e-5)


@pytest.mark.parametrize("others", [0, 1])
def test_rounding_does_not_decide_where_nearly_all_items_are_equal(others):
    """The statistic is about 0 then, however the items are relabelled."""
    one, other = np.random.default_rng(2).normal(size=(2, 384)).astype(np.float32)
    reference = np.stack([one] * 1000 + [other] * others)
    found = score(fit(reference, "", MmdConfig(permutations=99)), np.stack([one] * 500), 0)
    assert found.chance == 1.0


def test_the_length_of_a_vector_says_nothing():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(9, 4)).astype(np.float32), random.normal(0.5, 1, size=(6, 4)).astype(np.float32)
    assert score(fit(7 * x, "", MmdConfig()), y, 0).value == pytest.approx(
        score(fit(x, "", MmdConfig()), y, 0).value, abs=1e-6
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, (0, 0.05)), (0.3, (0.95, 1))])
def test_a_third_of_another_kind_is_told_and_none_is_not(share, expected):
    """Two kinds of texts, as far apart as kinds of prompts are: a cosine of about 0.3 between kinds, 0.6 within."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(2, 64))
    config, trials, said = MmdConfig(**SMALL), 60, 0

    def texts(count, strange):
        kinds = (np.arange(count) < strange * count).astype(int)
        return (centres[kinds] + 0.8 * random.normal(size=(count, 64))).astype(np.float32)

    for trial in range(trials):
        said += score(fit(texts(150, 0), "", config), texts(60, share), trial).chance <= 0.01
    found = proportion(said, trials, 0.999)
    assert found.low <= expected[1]
    assert found.value >= expected[0], f"told in {said} of {trials}"
