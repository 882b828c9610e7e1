"""New tasks are spread by the share of failed ones, to the last; the control spreads as many evenly."""

import pytest

from tasks.methods.curators import Attempts
from tasks.methods.curators.failures.config import FailuresConfig
from tasks.methods.curators.failures.method import allocate, spread


def test_the_share_of_failures_decides_and_not_their_number():
    attempts = {"easy": Attempts(40, 4), "hard": Attempts(10, 9)}
    assert allocate(attempts, 100, FailuresConfig(add=20, where="failures")) == {"easy": 2, "hard": 18}


def test_a_kind_that_never_fails_gets_nothing_and_where_none_fails_nothing_is_added():
    attempts = {"easy": Attempts(40, 0), "hard": Attempts(40, 1)}
    assert allocate(attempts, 100, FailuresConfig(add=7)) == {"easy": 0, "hard": 7}
    assert allocate({"easy": Attempts(40, 0)}, 100, FailuresConfig(add=7)) == {"easy": 0}


def test_where_all_fail_alike_both_ways_are_one():
    attempts = {name: Attempts(5, 5) for name in "abc"}
    ways = [allocate(attempts, 100, FailuresConfig(add=9, where=where)) for where in ("failures", "uniform")]
    assert ways == [{"a": 3, "b": 3, "c": 3}] * 2


def test_kinds_that_are_hardly_ever_solved_get_little_where_learnable_and_none_that_never_fails():
    attempts = {"beyond": Attempts(30, 30), "frontier": Attempts(30, 15), "solved": Attempts(30, 0)}
    by_hand = {"beyond": 1 * 1 / 32, "frontier": 0.5 * 16 / 32}
    added = allocate(attempts, 100, FailuresConfig(add=90, where="learnable"))
    assert added == {"beyond": 10, "frontier": 80, "solved": 0}
    assert added["beyond"] == 90 * by_hand["beyond"] / sum(by_hand.values())
    assert allocate(attempts, 100, FailuresConfig(add=90)) == added, "the default"
    assert allocate(attempts, 100, FailuresConfig(add=90, where="failures"))["beyond"] == 60


def test_the_control_adds_as_many_wherever_the_failures_are():
    attempts = {"easy": Attempts(40, 0), "hard": Attempts(40, 40), "unknown": Attempts(0, 0)}
    assert allocate(attempts, 100, FailuresConfig(add=9, where="uniform")) == {"easy": 5, "hard": 4, "unknown": 0}
    solved = {"easy": Attempts(40, 0), "hard": Attempts(40, 0)}
    assert allocate(solved, 100, FailuresConfig(add=9, where="uniform")) == {"easy": 0, "hard": 0}


def test_growth_is_in_proportion_to_the_round_and_takes_the_place_of_a_number():
    attempts = {"easy": Attempts(40, 10), "hard": Attempts(40, 30)}
    for examples, added in ((18, 27), (45, 68), (101, 152)):
        assert sum(allocate(attempts, examples, FailuresConfig(add=7, growth=1.5)).values()) == added
        assert sum(allocate(attempts, examples, FailuresConfig(add=7)).values()) == 7


@pytest.mark.parametrize("number", [1, 2, 7, 100])
def test_the_parts_add_up_and_none_is_a_whole_task_off(number):
    weights = {"a": 0.1, "b": 0.25, "c": 0.9, "d": 1 / 3}
    parts = spread(number, weights)
    assert sum(parts.values()) == number
    for name, weight in weights.items():
        assert abs(parts[name] - number * weight / sum(weights.values())) < 1
