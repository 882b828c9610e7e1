"""A judge is asked in a drawn order, pairs with a known verdict are planted, and nonsense is named and counted."""

from dataclasses import replace

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Example
from tasks.core.text.writing import Answer, JudgeServer
from tasks.engine.inference import writer
from tasks.stages.evaluate.checks.judging import Judging, _Pair, decoding, likeness
from tasks.stages.evaluate.config import EvaluateConfig, Rules
from tasks.stages.evaluate.problem_sets import problem_sets
from tests import chat_server
from tests import tiny as small
from tests.support import ScratchRun


def problem(number: int) -> Example:
    row = small.example(number, prompt=f"What is {number}?", response=f"It is {number}, surely.", split="test")
    return replace(row, tests=registry.tests(registry.parse("judge"), Row(f"What is {number}?", row.response)))


PROBLEMS = [problem(number) for number in range(12)]


def sides(text):
    """The question's number, and both answers."""
    question, rest = text.split("[Question]\n")[1].split("\n\n[Answer A]\n")
    return question.strip("What is?"), *rest.split("\n\n[Answer B]\n")


def fair(text):
    """Prefers the answer that holds the question's number."""
    number, a, b = sides(text)
    first, second = (f"is {number}," in side for side in (a, b))
    return "TIE" if first == second else "A" if first else "B"


def judged(judge, answers, seed=0):
    judging = Judging(lambda prompts, keys: [Answer(judge(prompt[0].content)) for prompt in prompts], seed)
    return judging.grade(PROBLEMS, answers), judging.planted


def test_a_fair_judge_finds_good_and_bad_answers_and_agrees_with_what_was_planted():
    answers = [f"is {n}," if n % 2 else "no idea" for n in range(12)]
    grades, planted = judged(fair, answers)
    assert [grade.verdict for grade in grades] == ["tie" if n % 2 else "reference preferred" for n in range(12)]
    assert [grade.score for grade in grades] == [0.5 if n % 2 else 0 for n in range(12)]
    assert len(planted) == 12
    assert {row.outcome for row in planted} == {"passed"}
    assert {row.measure for row in planted} == {"judge agreement"}


def test_a_judge_that_prefers_a_place_is_told_by_the_planted_pairs():
    grades, planted = judged(lambda text: "A", ["is it"] * 12)
    assert 0 < sum(grade.score for grade in grades) < 12  # the order is drawn
    assert {row.outcome for row in planted} == {"passed", "disagrees"}
    again, _ = judged(lambda text: "A", ["is it"] * 12)
    other, _ = judged(lambda text: "A", ["is it"] * 12, seed=1)
    assert again == grades != other


@pytest.mark.parametrize(
    ("reply", "better"),
    [
        ("A", "A"), ("**B**.", "B"), ("A is better.", "A"), ("TIE", "tie"), ("Tie.", "tie"), ("A tie.", "tie"), ("tie", "tie"),
        ("Answer B", "B"), ("[Answer A]", "A"), ("**Answer:** B", "B"), ("Option A.", "A"), ("verdict: A", "A"), ("Verdict: TIE", "tie"),
        ("Answer A and Answer B are alike", None), ("Answer a", None), ("Answer Bad", None),
        ("A close call, but B", None), ("A fair comparison shows that B is better", None), ("A less complete answer than B", None),
        ("A clearly wins", "A"), ("A because of its numbers", "A"), ("Option A clearly", "A"), ("A's numbers are right", "A"), ("A\nthe first", "A"),
        ("A and B are equally good", None), ("A/B", None), ("B or A", None), ("Answers", None), ("a", None),
    ],
)  # fmt: skip
def test_the_first_word_is_the_verdict_where_it_is_one(reply, better):
    pair = _Pair(PROBLEMS[0], "this", "that", "key")
    values = {"A": float(pair.is_first), "B": float(not pair.is_first), "tie": 0.5, None: None}
    assert pair.preference(Answer(reply)) == values[better]


def test_nonsense_is_counted_and_nothing_but_nonsense_is_an_error():
    grades, planted = judged(lambda text: "Both are nice" if "What is 3?" in text else fair(text), ["is it"] * 12)
    assert (grades[3].verdict, grades[3].score) == ("no verdict", 0.5)
    assert [row.outcome for row in planted].count("no verdict") == 1
    with pytest.raises(ValueError, match=r"none of 24 answers is A, B or TIE\. The first: 'As a model"):
        judged(lambda text: "As a model, I cannot", ["is it"] * 12)


def served(server, folder, **settings):
    """The judge of a server."""
    judge = JudgeServer(url=server.url, model="m", **settings)
    return writer.of_server(judge, decoding(judge), ScratchRun(folder))


def reasoning(request):
    """The reply of a judge that reasons in 99 tokens before its verdict, as far as the request lets it."""
    if request["max_tokens"] < 100:
        return "<think>\nBoth answers", "length"
    return f"<think>\nBoth answers say something.\n</think>\n{fair(request['messages'][-1]['content'])}"


def test_a_judge_that_reasons_is_cut_off_before_a_verdict_and_the_setting_that_lets_it_end_is_named(tmp_path):
    with chat_server.serving(reasoning) as server:
        with pytest.raises(ValueError, match=r"none of 24 .* cut off: raise evaluate\.judge\.max_new_tokens"):
            Judging(served(server, tmp_path), 0).grade(PROBLEMS, ["no idea"] * 12)
        grades = Judging(served(server, tmp_path, max_new_tokens=100), 0).grade(PROBLEMS, ["no idea"] * 12)
    assert [grade.score for grade in grades] == [0.0] * 12


def test_a_server_is_asked_once_for_each_pair(tmp_path):
    with chat_server.serving(lambda request: fair(request["messages"][-1]["content"])) as server:
        for _ in range(2):
            judging = Judging(served(server, tmp_path), 0)
            grades = judging.grade(PROBLEMS, ["no idea"] * 12)
        assert [grade.score for grade in grades] == [0.0] * 12
        assert len(server.asked) == 24
        assert server.asked[0]["messages"][0]["role"] == "user"


def test_without_a_server_the_answers_are_not_judged_and_the_reason_is_reported(tiny):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    (problem_set,) = problem_sets(PROBLEMS, tokenizer, EvaluateConfig())
    assert problem_set.reason_not_run(None) == "evaluate.judge is not set"
    named = EvaluateConfig.model_validate({"judge": {"url": "http://127.0.0.1:1/v1", "model": "m"}})
    assert problem_sets(PROBLEMS, tokenizer, named)[0].reason_not_run(None) is None


def test_rules_tell_right_answers_from_wrong_ones_in_either_place_and_prefer_none_to_the_reference():
    answers = [f"It is {n}, surely." if n < 4 else f"It is {n + 1}, surely." if n < 8 else "no idea" for n in range(12)]
    judging = Judging(Rules(rules="overlap"), 0)
    grades = judging.grade(PROBLEMS, answers)
    assert [grade.score for grade in grades] == [0.5] * 4 + [0] * 8
    assert {row.outcome for row in judging.planted} == {"passed"}, "the planted pairs are all told"
    blind = Judging(Rules(rules="overlap", margin=0.9), 0)
    blind.grade(PROBLEMS, answers)
    assert {row.outcome for row in blind.planted} == {"disagrees"}, (
        "rules that tell nothing apart are told by their agreement"
    )


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [("the link is down", "the link is down", 1), ("62 hosts", "62 hosts", 1), ("64 hosts", "62 hosts", 0.5), ("", "no", 0), ("7", "8", 0)],
)  # fmt: skip
def test_likeness_counts_words_and_numbers_alike(answer, reference, expected):
    assert likeness(answer, reference) == expected
