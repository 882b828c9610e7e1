"""What every router owes: it is run for each folder, on prompts like those of two tasks and on one of none."""

import numpy as np
import pytest

from tasks import methods
from tasks.core.answers.tool_choice import written
from tasks.methods.routers import Asked, Specialists
from tasks.methods.routers.nearest.method import distances
from tests.methods import contract

ROUTERS = methods.names("routers")
SERVED = [name for name in ROUTERS if not methods.spec("routers", name).knows_task]
MEANS = np.array([[[0.0, 0.0, 100.0]], [[1.0, 0.0, 101.0]]], np.float32)
SPREAD = np.array([[[0.01, 0.01, 100.0]]] * 2, np.float32)
BANK = Specialists(("count", "colour"), MEANS, SPREAD)
OF_TOOLS = Specialists(("call:count", "select"), MEANS, SPREAD)
STATES = np.array([[[0.1, 0.0, 110.0]], [[0.9, 0.1, 91.0]], [[9.0, 9.0, 100.0]]], np.float32)
TASKS = ["count", "colour", "general"]


WRITTEN = ["count", None, "colour"]
"""What the members write: the names of tools."""


def bank(name):
    return OF_TOOLS if name == "dualtune" else BANK


def route(name, places=(0, 1, 2), tasks=TASKS, **settings):
    part = contract.part("routers", name, **settings)

    def write(member, of, *, samples, **_):
        assert member in bank(name).names
        return [[written(WRITTEN[places[place]])] * samples for place in of]

    asked = Asked([tasks[place] for place in places], lambda: STATES[list(places)], write)
    return list(part.method.route(asked, bank(name), part.config))


@pytest.mark.parametrize("name", ROUTERS)
def test_a_prompt_goes_to_a_member_or_to_the_base_whatever_stands_beside_it(name):
    together = route(name)
    assert set(together) <= {*bank(name).names, None}
    assert [route(name, [place])[0] for place in range(3)] == together
    assert route(name, [2, 0]) == [together[2], together[0]]


@pytest.mark.parametrize("name", SERVED)
def test_who_knows_no_task_goes_by_the_prompt_alone(name):
    assert route(name) == route(name, tasks=["", "", ""])


def test_none_is_the_base_and_task_the_own_adapter():
    assert route("none") == [None] * 3
    assert route("task") == ["count", "colour", None]


def test_the_nearest_is_told_by_the_spread_of_each_number():
    assert route("nearest") == ["count", "colour", "colour"], "the large number, which spreads, decides nothing"
    assert route("nearest", reach=2.0) == ["count", "colour", None]


def test_distances_are_a_mean_over_the_numbers_that_vary():
    varying, constant = (np.array([[spread]] * 2, np.float32) for spread in ([0.01, 0.01, 100.0], [0.01, 0.01, 0.0]))
    of_all, of_two = (distances(STATES, Specialists(BANK.names, MEANS, spread)) for spread in (varying, constant))
    third = (STATES[:, None, 0, 2] - MEANS[:, 0, 2]) ** 2 / 100
    np.testing.assert_allclose(of_two, (3 * of_all - third) / 2)


def test_the_nearest_bundle_goes_by_direction_and_leaves_what_has_none_to_the_base():
    assert route("bundle", size=64) == ["count", "colour", "colour"], "the large number, which spreads, decides nothing"
    assert route("bundle", size=64, least=0.9) == ["count", "colour", None]


@pytest.mark.parametrize("name", ["nearest", "bundle"])
def test_numbers_that_are_the_same_in_all_prompts_decide_nothing(name):
    part = contract.part("routers", name, **({"size": 64} if name == "bundle" else {"reach": 9.0}))

    def routes(spread):
        bank = Specialists(BANK.names, MEANS, np.array([[spread]] * 2, np.float32))
        return list(part.method.route(Asked(TASKS[:2], lambda: STATES[:2], lambda *_, **__: []), bank, part.config))

    assert routes([0.01, 0.01, 0.0]) == ["count", "colour"], (
        "the third is 10 off, and nothing says whether that is much"
    )
    with pytest.raises(ValueError, match=r"each member of the bank \(count, colour\) are all alike"):
        routes([0.0, 0.0, 0.0])


def test_one_bundle_alone_has_nothing_to_be_told_from():
    part = contract.part("routers", "bundle", least=0.5, size=64)
    with pytest.raises(ValueError, match=r"methods\.bundle\.least: the bank has one member, 'count'"):
        part.method.route(
            Asked(TASKS, lambda: STATES, lambda *_, **__: []),
            Specialists(("count",), MEANS[:1], SPREAD[:1]),
            part.config,
        )
