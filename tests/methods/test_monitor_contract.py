"""What every monitor owes: it is run for each file found in the folder."""

import math

import numpy as np
import pytest

from tasks import methods
from tasks.core.statistics import proportion
from tasks.methods.monitors import FEW
from tests.methods import contract

MONITORS = methods.names("monitors")
SEEN = {
    # An item's embedding, in eight directions of which a few matter; and the nats and tokens of a text, with heavy tails.
    "embeddings": lambda random, count: random.normal(size=(count, 8)) * np.arange(8, 0, -1),
    "losses": lambda random, count: np.stack(
        [random.lognormal(0, 0.7, count) * (tokens := random.integers(20, 200, count)), tokens], axis=1
    ),
    # Hidden states of three layers, all with a direction in common and one number that is large in every text.
    "states": lambda random, count: random.normal(size=(count, 3, 8)) + np.array([100.0, *[3.0] * 7]),
}
FAR = {
    "embeddings": lambda items: items + 12.0,
    "losses": lambda items: items * [2.0, 1.0],
    "states": lambda items: items + 12.0,
}


def drawn(part, count, seed, shift=lambda items: items):
    return shift(SEEN[part.spec.sees](np.random.default_rng(seed), count)).astype(np.float32)


def ask(part, reference, came, seed=0):
    return part.method.score(part.method.fit(reference, ["chat"] * len(reference), part.config), came, seed)


@pytest.mark.parametrize("name", MONITORS)
def test_what_is_alike_is_called_strange_as_rarely_as_the_level_says(name):
    part = contract.part("monitors", name)
    trials, level = 200, 0.1
    said = sum(ask(part, drawn(part, 40, 2 * n), drawn(part, 20, 2 * n + 1), n).chance <= level for n in range(trials))
    assert proportion(said, trials, 0.999).low <= level, f"{said} false alarms of {trials} at level {level}"


@pytest.mark.parametrize("name", MONITORS)
def test_what_is_far_off_is_told_at_the_smallest_chance_there_is(name):
    part = contract.part("monitors", name)
    found = ask(part, drawn(part, 60, 0), drawn(part, 40, 1, FAR[part.spec.sees]))
    if permutations := getattr(part.config, "permutations", None):
        assert found.chance == pytest.approx(1 / (permutations + 1))
    else:
        assert found.chance < 0.001
    assert found.value > ask(part, drawn(part, 60, 0), drawn(part, 40, 1)).value


@pytest.mark.parametrize("name", MONITORS)
def test_a_finding_repeats_and_nothing_given_is_changed(name):
    part = contract.part("monitors", name)
    reference, came = drawn(part, 30, 0), drawn(part, 20, 1)
    before = reference.copy(), came.copy()
    first = ask(part, reference, came, 7)
    assert first == ask(part, reference, came, 7)
    assert np.array_equal(before[0], reference)
    assert np.array_equal(before[1], came)
    assert 0 < first.chance <= 1
    assert math.isfinite(first.value)


@pytest.mark.parametrize("name", MONITORS)
def test_the_order_of_items_moves_no_value(name):
    part = contract.part("monitors", name)
    reference, came = drawn(part, 30, 0), drawn(part, 20, 1)
    turned = ask(part, reference[::-1], came[::-1])
    assert turned.value == pytest.approx(ask(part, reference, came).value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", MONITORS)
def test_an_interval_holds_the_value_and_stands_whole_or_not_at_all(name):
    part = contract.part("monitors", name)
    found = ask(part, drawn(part, 60, 0), drawn(part, 40, 1))
    assert (found.low is None) == (found.high is None)
    if found.low is not None:
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize("name", MONITORS)
def test_too_few_items_are_refused_with_their_number(name):
    part = contract.part("monitors", name)
    with pytest.raises(ValueError, match=f"{FEW - 1} items against 30 say nothing"):
        ask(part, drawn(part, 30, 0), drawn(part, FEW - 1, 1))


@pytest.mark.parametrize("name", MONITORS)
def test_items_that_are_all_equal_are_no_drift(name):
    part = contract.part("monitors", name)
    same = np.ones((20, *drawn(part, 1, 0).shape[1:]), dtype=np.float32)
    found = ask(part, same, same[:10])
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.chance == 1
