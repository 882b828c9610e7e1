"""The loss gap by hand, its interval, and both directions."""

import numpy as np
import pytest

from tasks.core.statistics import proportion
from tasks.methods.monitors.loss_gap.config import LossGapConfig
from tasks.methods.monitors.loss_gap.method import fit, score

SMALL = {"permutations": 199, "resamples": 400}


def losses(random, count, level=1.0):
    tokens = random.integers(20, 300, count)
    return np.stack([level * random.lognormal(0, 0.5, count) * tokens, tokens], axis=1).astype(np.float32)


def test_the_gap_is_a_difference_of_nats_per_token_not_a_mean_of_means():
    reference = np.array([[10, 10], [30, 10], [0, 0], [20, 20], [5, 5]], dtype=np.float32)  # 65 / 45
    came = np.array([[90, 30], [1, 10], [0, 0], [9, 10], [20, 10]], dtype=np.float32)  # 120 / 60
    assert score(fit(reference, "", LossGapConfig(**SMALL)), came, 0).value == pytest.approx(120 / 60 - 65 / 45)


def test_easier_data_have_changed_too():
    random = np.random.default_rng(0)
    found = score(fit(losses(random, 80), "", LossGapConfig(**SMALL)), losses(random, 60, 0.4), 0)
    assert found.chance <= 0.01
    assert found.high < 0


def test_the_interval_holds_the_true_gap_as_often_as_it_says():
    random, held, trials = np.random.default_rng(1), 0, 100
    truth = 0.5 * np.exp(0.5**2 / 2)  # a mean of e^(s²/2) times a level of 1.5, less one of 1
    for trial in range(trials):
        found = score(fit(losses(random, 100), "", LossGapConfig(**SMALL)), losses(random, 100, 1.5), trial)
        held += found.low <= truth <= found.high
    assert proportion(held, trials, 0.999).high >= 0.95, f"held in {held} of {trials}"


def test_the_interval_of_few_items_holds_the_true_gap_as_often_as_it_says():
    """A plain bootstrap of five items misses it in one case of five."""
    random, missed, trials = np.random.default_rng(2), 0, 300
    for trial in range(trials):
        known, came = (np.maximum(random.normal(level, 0.5, count), 0.05) for level, count in ((2.0, 100), (2.5, 5)))
        sides = [
            np.stack([30 * level, np.full(len(level), 30.0)], axis=1).astype(np.float32) for level in (known, came)
        ]
        found = score(fit(sides[0], "", LossGapConfig(permutations=99, resamples=400)), sides[1], trial)
        missed += not found.low <= 0.5 <= found.high
    assert proportion(missed, trials, 0.999).low <= 0.05, f"missed in {missed} of {trials}"


def test_what_one_item_tells_has_no_interval():
    reference = np.array([[30, 10]] * 6, dtype=np.float32)
    found = score(fit(reference, "", LossGapConfig(**SMALL)), np.array([[9, 3], *[[0, 0]] * 4], dtype=np.float32), 0)
    assert (found.value, found.low, found.high) == (0, None, None)
