"""Figures read the same everywhere: unit, sign and interval."""

import math

import pytest

from tasks.core.statistics import Estimate
from tasks.stages.report import number_format


def test_a_level_stands_before_its_interval():
    assert number_format.level(Estimate(1.2344, 1.2, 1.27, 5), "nats/token") == "1.234 [1.200, 1.270]"


def test_shares_are_told_in_per_cent():
    assert number_format.level(Estimate(0.125, 0.05, 0.24, 5), "share") == "12.5 [5.0, 24.0]"


def test_each_figure_of_a_change_has_its_sign():
    assert number_format.change(Estimate(-0.2, -0.25, 0.1, 5), "bits/byte") == "−0.200 [−0.250, +0.100]"
    assert number_format.change(Estimate(0.0, -0.02, 0.02, 5), "share") == "0.0 [−2.0, +2.0]"


@pytest.mark.parametrize("tiny", [1e-9, -1e-9, 0.0, -0.0])
def test_what_rounds_to_zero_has_no_sign(tiny):
    assert number_format.signed(tiny) == "0.000"
    assert number_format.number(tiny) == "0.000"


@pytest.mark.parametrize(("value", "text"), [(9.9994, "9.999"), (9.9996, "10.00"), (-10.123, "−10.12")])
def test_losses_keep_four_digits(value, text):
    assert number_format.number(value) == text


def test_bounds_that_do_not_exist_are_not_printed():
    unbounded = Estimate(1.5, -math.inf, math.inf, 1)
    assert number_format.level(unbounded, "nats/token") == "1.500 [no interval]"
    assert number_format.change(unbounded, "nats/token") == "+1.500 [no interval]"


def test_small_p_values_are_not_made_smaller_than_they_are_worth():
    assert [number_format.p_value(p) for p in (0.0004, 0.04, 1.0)] == ["< 0.001", "0.040", "1.000"]
