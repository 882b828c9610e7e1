"""SimPO is TRL's on the same pairs; only the mean log-probability of a token counts, and the margin moves the loss."""

import math

from tests.methods import preferences
from tests.methods.official import frozen


def test_it_is_trls_on_the_same_pairs(tmp_path):
    trl = frozen("simpo")
    preferences.same(preferences.loss("simpo", preferences.pairs(), tmp_path, trl["settings"]), trl["loss"])


def test_equal_sides_cost_the_margin_alone(tmp_path):
    prompt, good, _ = preferences.PAIRS[0]
    same = preferences.sequence(prompt, good)
    pair = preferences.sequence(prompt, good, auxiliary=(same,))
    found = preferences.loss("simpo", [pair], tmp_path, {"beta": 2.0, "gamma": 0.7})
    preferences.same(found, math.log(1 + math.exp(0.7)))
