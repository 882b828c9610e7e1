"""What every curator owes: it is run for each file found in the folder."""

import json
import random
from dataclasses import asdict, fields, replace

import pytest

from tasks import methods
from tasks.core.records import Signals
from tasks.methods.curators import Attempts, limits
from tests.methods import contract

LOOKS_AT = {name: methods.spec("curators", name).looks_at for name in methods.names("curators")}
CURATORS = [name for name, looks_at in LOOKS_AT.items() if looks_at == "examples"]
OF_TASKS = [name for name, looks_at in LOOKS_AT.items() if looks_at == "tasks"]


def curator(name):
    part = contract.part("curators", name)
    return part.method, part.config


def rows(method, count=60, seed=0):
    """Signals as a stage gathers them: a few far out, a few unknown."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        far = 5.0 if number % 9 == 0 else 0.0
        scores = {name: draw.uniform(6, 9) - far for name in method.questions}
        made.append(
            Signals(
                f"example-{number}", draw.uniform(1, 2) + far, draw.uniform(1, 2) + far, 5, 0.9 - far / 9, [], **scores,
                quality=method.quality(list(scores.values())), flags=[], chosen=[], excluded="",
            )
        )  # fmt: skip
    unknown = dict.fromkeys([*method.questions, "loss_before", "loss_after", "neighbour_similarity", "quality"])
    return [replace(row, **unknown, excluded="too long") if row.example.endswith("7") else row for row in made]


@pytest.mark.parametrize("name", CURATORS)
def test_a_curator_says_only_which_sets_an_example_is_in(name):
    method, params = curator(name)
    given = rows(method)
    found, _ = method.choose(given, params)
    assert [replace(row, flags=[], chosen=[]) for row in found] == given
    assert {flag for row in found for flag in (*row.flags, *row.chosen)} <= {"hard", "low", "sparse"}
    assert any(row.chosen for row in found)
    assert not any(row.flags or row.chosen for row in found if row.excluded)


@pytest.mark.parametrize("name", CURATORS)
def test_the_order_of_examples_changes_nothing(name):
    method, params = curator(name)
    given = rows(method)
    found, _ = method.choose(given, params)
    turned, _ = method.choose(given[::-1], params)
    assert found == turned[::-1]


@pytest.mark.parametrize("name", CURATORS)
def test_every_set_has_its_reason_and_limits_survive_json(name):
    method, params = curator(name)
    found, known = method.choose(rows(method), params)
    told = {"limits": {signal: asdict(limit) for signal, limit in known.items()}}
    assert limits(json.loads(json.dumps(told, allow_nan=False))) == known
    for row in found:
        assert len(method.explain(row, known)) == len({*row.flags, *row.chosen})


@pytest.mark.parametrize("name", CURATORS)
def test_questions_are_fields_of_the_record_and_answers_are_read_or_not(name):
    method, _ = curator(name)
    assert method.questions.keys() <= {field.name for field in fields(Signals)}
    assert method.score("I cannot say.") is None
    assert method.score("Score: 7") == 7
    assert 0 <= method.expect([0.0] * 10) <= 10
    assert method.quality([None for _ in method.questions]) is None


@pytest.mark.parametrize("name", OF_TASKS)
def test_a_curator_of_tasks_names_every_kind_and_the_order_of_kinds_decides_nothing_but_ties(name):
    method, params = curator(name)
    attempts = {f"kind-{number}": Attempts(40, 4 * number + 1) for number in range(8)}
    numbers = method.allocate(attempts, 100, params)
    assert list(numbers) == list(attempts)
    assert all(number >= 0 for number in numbers.values())
    assert method.allocate(dict(reversed(attempts.items())), 100, params) == numbers
