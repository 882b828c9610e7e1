"""Answers of models to generated tasks: their verifiers run in the sandbox, and nothing that one evaluates reaches the machine or the next."""

import json
import time
from pathlib import Path

import pytest

from tasks.core.records import Tests
from tasks.io import gym_verifier, verifiers
from tasks.io.sandbox import Judge, Level, Limits, judge, probe
from tasks.io.sources import gym

EVALUATED = (
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24",
    "simple_integration", "spiral_matrix", "string_insertion",
)  # fmt: skip
"""Data sets whose verifiers evaluate answers, in the release that is installed."""
LIMITS = Limits(wall_s=3.0, cpu_s=3600, memory_mb=2048)
TEXT = Path(gym_verifier.__file__).read_text(encoding="utf-8")
NAIVE = """
class Naive:
    def score_answer(self, answer, entry):
        expected = 1
        return eval(answer) == expected

def verifier(task, config):
    return Naive()
"""


@pytest.fixture(scope="module")
def judging():
    with_limits = Judge(TEXT, "reasoning-gym", LIMITS)
    yield with_limits
    with_limits.close()


@pytest.fixture
def judged(judging, monkeypatch):
    monkeypatch.setattr(verifiers, "_judge", lambda process: judging)
    return verifiers.judged


def need_sandbox():
    """Skip where the machine runs no program of a model, and so evaluates no answer."""
    if (level := probe()).number < 2:
        pytest.skip(f"no answer is evaluated here: {level.missing}")


def generated(task):
    """The tests of a generated item, and its answer."""
    puzzle = next(puzzle for puzzle in gym.puzzles(task, 9, 0, {}) if puzzle.score == 1)
    return Tests("answer", task, puzzle.entry, puzzle.config), puzzle.answer


@pytest.mark.parametrize("task", [*EVALUATED, "spell_backward"])
def test_a_right_answer_is_right_and_another_is_not(task, judged):
    if task in EVALUATED:
        need_sandbox()
    tests, answer = generated(task)
    assert judged(tests, f" {answer}\n") == 1
    assert judged(tests, "I do not know.") < 1
    assert verifiers.grade(tests, f"<think>Is it 1?</think>{answer}").score == 1


@pytest.mark.parametrize("before", ["", "-", "3 + ", "2 ** ", "x, "])
def test_no_verifier_runs_the_code_of_an_answer(before, judged, tmp_path):
    for task in EVALUATED:
        tests, _ = generated(task)
        for file, code in (
            ("a", "open({0!r}, 'w')"),
            ("b", "[open][0]({0!r}, 'w')"),
            ("c", "(lambda: open({0!r}, 'w'))()"),
        ):
            assert judged(tests, before + code.format(str(tmp_path / file))) < 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["countdown", "n_queens", "simple_integration", "coin_flip"])
def test_a_number_that_no_machine_holds_is_wrong_in_time(task, judged):
    if task in EVALUATED:
        need_sandbox()
    tests, answer = generated(task)
    for large in ("9**9**9**9", "1e999999999"):
        start = time.monotonic()
        assert judged(tests, large) < 1
        assert time.monotonic() - start < 3 * LIMITS.wall_s
    assert judged(tests, answer) == 1


@pytest.fixture(scope="module")
def unguarded():
    """Judge answers that call anything."""
    need_sandbox()
    text = TEXT.replace("if not is_plain(answer, within_reach):", "if False:")
    assert text != TEXT
    with_calls = Judge(text, "reasoning-gym", LIMITS)
    yield with_calls
    with_calls.close()


@pytest.mark.parametrize(
    "code",
    [
        "[0] * 10**10",
        "setattr(__import__('json'), 'loads', 1)",
        "__import__('os').kill(1, 9)",
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "[__import__('os').fork() for _ in range(9)]",
        "__import__('os')._exit(0)",
        "print('x' * 10**7)",
    ],
)
def test_no_answer_changes_how_the_next_is_judged(code, unguarded, monkeypatch):
    monkeypatch.setattr(verifiers, "_judge", lambda process: unguarded)
    tests, answer = generated("n_queens")
    for _ in range(2):
        assert verifiers.judged(tests, code) < 1
        assert verifiers.judged(tests, answer) == 1


def test_an_answer_that_calls_anything_reaches_no_file_of_the_machine(unguarded, monkeypatch, tmp_path):
    monkeypatch.setattr(verifiers, "_judge", lambda process: unguarded)
    secret = tmp_path / "secret"
    secret.write_text("4 - 3")
    for task in EVALUATED:
        tests, _ = generated(task)
        assert verifiers.judged(tests, f"open({str(tmp_path / 'made')!r}, 'w')") < 1
        assert verifiers.judged(tests, f"__import__('os').remove({str(secret)!r})") < 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def test_a_verifier_that_evaluates_is_noticed_whatever_its_name():
    naive = Judge(TEXT + NAIVE, "reasoning-gym", LIMITS)
    try:
        assert naive.ask("judged('new', '', '{}', '2 - 1', False)", "None") is None
        assert naive.ask("judged('new', '', '{}', '2 - 1', True)", "None") == 1
        assert naive.ask("judged('new', '', '{}', 'open(1)', True)", "None") == 0
        assert naive.ask("judged('new', '', '{}', 'expected', True)", "None") == 0, "it would read the solution"
    finally:
        naive.close()


@pytest.mark.parametrize(
    "call",
    [
        "Integral({0}, {1})",
        "integrate({0}, {1})",
        "({0}).integrate({1})",
        "(integrate # sin\n({0}, {1}))",
        "[sin({0}, {1}) for sin, {1} in [(integrate, {1})]][0]",
        "'integrate({0}, {1})'",
        r"'integrate\x28{0}, {1})'",
        "'integrate%c{0}, {1})' % 40",
    ],
)
def test_an_answer_by_which_its_verifier_would_solve_the_task_is_wrong(call, judged):
    tests, _ = generated("simple_integration")
    fields = [json.loads(tests.entry)["metadata"][name] for name in ("integrand", "variable")]
    assert gym.score(tests, call.format(*fields)) == 1
    assert judged(tests, call.format(*fields)) == 0


@pytest.mark.parametrize(
    "answer", ["(expand # sin\n({0}))", "[sin({0}) for sin in [expand]][0]", "expand # sin\n({0}) + 0!"]
)
def test_a_product_is_not_expanded_whatever_the_call_is_written_as(answer, judged):
    tests, product = generated("polynomial_multiplication")
    assert judged(tests, answer.format(product)) == 0


@pytest.mark.parametrize(
    "answer",
    [
        "x**2/2 + C",
        "-exp(x)*sin(2*x)/3",
        "[[0, 1], [1, 0]]",
        "['A', 'B']",
        "(5! - 20) / 4",
        "2x",
        "007",
        "{'a': -1.5, 'b': None}",
    ],
)
def test_what_only_computes_is_evaluated(answer):
    assert gym_verifier.is_plain(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "x.y",
        "(1, 2)[0]",
        "lambda: 1",
        "(sin := 1)",
        "f'{x}'",
        "sin(*x)",
        "sin(x)(x)",
        "integrate!(x)",
        "0(\0",
        "(" * 9999,
    ],
)
def test_what_does_more_than_compute_is_not(answer):
    assert not gym_verifier.is_plain(answer)


def test_a_product_that_is_only_asked_to_be_expanded_is_no_answer(judged):
    tests, answer = generated("polynomial_multiplication")
    assert gym.score(tests, f"expand({answer})") == 1
    assert judged(tests, f"expand({answer})") == 0


def test_without_a_sandbox_answers_are_compared_and_none_is_evaluated(monkeypatch):
    monkeypatch.setattr(judge, "probe", lambda: Level(1, "limits"))
    weak = Judge(TEXT, "reasoning-gym", LIMITS)
    monkeypatch.setattr(verifiers, "_judge", lambda process: weak)
    try:
        tests, answer = generated("spell_backward")
        assert verifiers.judged(tests, answer) == 1
        assert verifiers.judged(tests, "x") < 1
        with pytest.raises(RuntimeError, match=r"verifier of countdown evaluates answers.*ratchet doctor"):
            verifiers.judged(generated("countdown")[0], "1 + 1")
    finally:
        weak.close()


def test_tests_that_its_verifier_cannot_be_made_for_end_the_stage(judged):
    with pytest.raises(RuntimeError, match="no_such_task"):
        judged(Tests("answer", "no_such_task", "{}"), "1")
