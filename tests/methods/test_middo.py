"""What the paper's code computes, on vectors small enough to check by hand (population std for losses and prompts, sample for quality)."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.records import Signals
from tasks.engine.inference import neighbours
from tasks.methods.curators import Limit
from tasks.methods.curators.middo.config import MiddoConfig
from tasks.methods.curators.middo.method import METHOD, QUESTIONS, choose, expect, explain, limit, quality, score

OPEN = MiddoConfig(cap=1)
SCORES = dict.fromkeys(QUESTIONS)


def row(number=0, *, before=1.0, after=1.0, similarity=None, judged=None, excluded=""):
    return Signals(
        f"row-{number}", before, after, 3, similarity, [], **SCORES, quality=judged, flags=[], chosen=[], excluded=excluded
    )  # fmt: skip


def rows(**columns):
    """Rows of these columns, numbered from 0."""
    return [
        row(number, **dict(zip(columns, values, strict=True)))
        for number, values in enumerate(zip(*columns.values(), strict=True))
    ]


def members(found, name, key="flags"):
    return {number for number, one in enumerate(found) if name in getattr(one, key)}


def test_hard_is_what_is_hard_before_the_training_and_still_hard_after_it():
    found, limits = choose(rows(before=[1, 1, 1, 1, 5], after=[1, 1, 1, 5, 5]), OPEN)
    assert limits["loss_before"].threshold == pytest.approx(3.4)
    assert limits["loss_after"].threshold == pytest.approx(4.559592, abs=1e-6)
    assert members(found, "hard") == {4}


@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_sparse_is_whose_nearest_prompts_are_far(scale):
    vectors = np.array([(1, 0), (1, 0.1), (0.9, 0), (0, 1), (1, -0.1)], dtype=np.float32)
    vectors[1] *= scale
    cosines, _ = neighbours.nearest(vectors, 2, exact_up_to=100)
    means = cosines.mean(axis=1)
    np.testing.assert_allclose(means, [0.997519, 0.995037, 0.997519, 0.049752, 0.995037], atol=2e-6)
    found, limits = choose(rows(similarity=means.tolist()), OPEN)
    assert limits["neighbour_similarity"].threshold == pytest.approx(0.428361, abs=2e-6)
    assert members(found, "sparse") == {3}


def test_low_is_what_the_model_itself_thinks_little_of():
    found, limits = choose(rows(judged=[8, 8, 7.5, 8, 2]), OPEN)
    assert limits["quality"] == Limit(pytest.approx(6.7), pytest.approx(2.636285), pytest.approx(4.063715))
    assert members(found, "low") == {4}


def test_what_lies_on_the_threshold_is_in_no_set():
    found, limits = choose(rows(before=[0, 2], after=[0, 2], judged=[5, 5], similarity=[0.5, 0.5]), OPEN)
    assert limits["loss_before"].threshold == 2.0
    assert not any(one.flags for one in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/10", 8),
        ("7.5", 7.5),
        ("12", 10),
        ("Score: 8/10", 8),
        ("**Score:** 6, since it is clear.", 6),
        ("The score is 3.", 3),
        ("Here is what I think.\nScore: 4", 4),
        ("Score: 9. The data says Score: 1", 9),
        ("N/A", None),
        ("", None),
        ("-3", None),
        ("Score: -3", None),
        ("On a scale of 0 to 10, 7", None),
        ("There are 2 mistakes.", None),
        ("2 mistakes.", None),
        (METHOD.answer, None),  # a judge that repeats what it was told
        (METHOD.digit, None),
        ("1. Yes, the facts are right.", None),
        ("0 to 10: 7", None),
        ("I cannot give a score 0 to 10.", None),
        ("A score of 0-10? Score: 7", 7),
        ("10 out of 10", 10),
        ("**8** - it is clear", 8),
        ("Score: 10 to be fair", 10),
        ("Score (0-10): 7", 7),
        ("Score (out of 10) is 6", 6),
        ("Score: [8]", 8),
        ("Score: (8)", 8),
        ("Score: 8 - 2 mistakes", 8),
        ("A score of 0 - 10 is asked for.", None),
        ("Score: 7-8", None),
        ("Score: 7 - 9", None),
        ("A score of 0 - 5 is bad. Score: 6", 6),
        ("0 - 10: 7", None),
        ("Score (8)\n\n1. The facts are right.", 8),
        ("Score (8): 3 facts are wrong", 8),
        ("Score (8/10): 3 facts are wrong", 8),
        ("Score (8 points): 3 facts are wrong", None),
        ("Score [0 to 10]: 7", 7),
        ("Score (max. 10): 8", 8),
        ("Score (/10): 8", 8),
        ("Score (1 = bad, 10 = good): 8", 8),
        ("Score (from 0 = not at all to 10 = perfectly): 7", 7),
        ("Score (10 = best)", None),
        ("Score (rated 8 out of 10)\n\n1. The response is wrong.", None),
        ("Score (I give 8/10): 2 facts are wrong", None),
        ("Score (my rating: 8): 3 facts are wrong", None),
        ("Score (out of 10, I give 8): 3 facts are wrong", None),
        ("Score ( 8 ): 3 facts are wrong", None),
        ("Score (8 - good): 3 facts are wrong", None),
        ("Score (clarity - 8): 3 facts are wrong", None),
        ("Score (my rating - 8)\n\n2 small mistakes.", None),
        ("Score (a rating of 8)\n\n2 small mistakes.", None),
        ("Score (8 = good)\n\n1. The facts are right.", None),
        ("Score (8 = good): 3 facts are wrong", None),
        ("Score (10 = best): 3 facts are wrong", None),
        ("Score (8 = good, 9 = very good): 3 facts are wrong", None),
        ("Score (out of 5): 4", None),
        ("Score (of 10): 7", 7),
        ("Score (of 10, I give 8): 3 facts are wrong", None),
        ("Score (a rating of 10): 3 facts are wrong", None),
        ("Score (0–10, 10 = perfect): 6", 6),
        ("Score (0-10, 8 = good): 3 facts are wrong", None),
        ("Score (0 = worst, 5 = medium, 10 = best): 7", 7),
        ("Score (0-10; 0 = worst, 5 = medium, 10 = best): 7", 7),
        ("Score (1 = bad, 8 = good): 3 facts are wrong", None),
        ("Score (0-10)\n\n1. The facts are right.", None),
        ("**Score**\n\n1. Facts: right\n2. Clear", None),
        ("Score (0-10)\n\n7", 7),
        ("Score:\n8. It is clear", 8),
        ("Score [10 = best, 0 = worst]: 8", 8),
        ("Score: 5\n\n- 12 of the claims are wrong.", 5),
        ("Score: 7\n- 8 of 10 facts are right", 7),
        ("7\n- 8 of 10 facts are right", 7),
        ("Score (on a scale of 0-10): **7**", 7),
        ("Score (as I see it): 7", 7),
        ("Score: [**8**]", 8),
        ("[8]", 8),
        ("[8]/10", 8),
        ("[8/10]", 8),
        ("(8) - it is clear", 8),
        ("(1) The facts are right.", None),
        ("[1] The facts are right.", None),
        ("<think>\nI thought of a score of 3, but no.\n</think>\n\nScore: 8", 8),
        ("<think>\nA score of 3 is", None),
    ],
)
def test_a_score_counts_where_one_was_asked_for(text, expected):
    assert score(text) == expected


@pytest.mark.parametrize("text", ["score (0=a ", "score (10=score ", "score (0=a 5="])
def test_a_score_is_sought_in_time_that_grows_as_the_answer_does(text):
    began = time.process_time()
    assert score(text * 8_000) is None
    assert time.process_time() - began < 2, "of a slow machine; as the square of the length it takes five"


def test_quality_is_the_mean_of_six_and_none_where_one_is_missing():
    assert quality([9, 3, 6, 6, 6, 6]) == 6
    assert quality([9, 3, 6, 6, 6, None]) is None
    assert quality([9, 3, 6, 6, 6, math.nan]) is None
    assert quality([]) is None


def test_the_expected_digit_is_stretched_to_ten():
    assert expect([-50.0] * 9 + [50.0]) == pytest.approx(10)
    assert expect([50.0] + [-50.0] * 9) == pytest.approx(0)
    assert expect([3.0] * 10) == pytest.approx(5)


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0])
def test_rounding_puts_nothing_beyond_a_threshold(m):
    """Of equal values, and of two that as many rows have each, none lies beyond the mean by more than the spread."""
    for number in range(2, 60):
        of_two = [[0.1, 0.7] * number, [0, 0.1] * number] if m == 1 else []
        for values in ([0.1] * number, [25 / 3] * number, *of_two):
            found, _ = choose(
                rows(before=values, after=values, similarity=values, judged=[25 / 3] * len(values)),
                MiddoConfig(complexity=m, quality=m, diversity=m, cap=1),
            )
            assert not any(one.flags for one in found), (number, values[:2])


def test_a_set_keeps_its_worst():
    losses = [1.0] * 14 + [8, 9, 8.5, 9, 8.7, 8.2]
    for cap, kept in (
        (0.05, {15}),
        (0.1, {15, 17}),
        (0.12, {15, 17}),
        (0.15, {15, 17, 18}),
        (1, set(range(14, 20))),
        (0, set()),
    ):
        found, _ = choose(rows(before=losses, after=losses), MiddoConfig(complexity=0.5, cap=cap))
        assert members(found, "hard") == set(range(14, 20))
        assert members(found, "hard", "chosen") == kept


def test_an_infinite_m_and_a_value_alone_choose_nothing():
    nothing = MiddoConfig(complexity=math.inf, quality=math.inf, diversity=math.inf)
    everything = rows(before=[1, 9], after=[1, 9], judged=[9, 1], similarity=[0.9, 0.1])
    for params, given in ((nothing, everything), (OPEN, everything[:1]), (OPEN, [])):
        found, limits = choose(given, params)
        assert [replace(one, flags=[], chosen=[]) for one in found] == given
        assert not any(one.flags or one.chosen for one in found)
        assert all(bound.threshold is None or math.isfinite(bound.threshold) for bound in limits.values())


def test_what_is_not_known_is_in_no_mean():
    known = rows(before=[1, 1, 1, 1, 5], after=[1, 1, 1, 5, 5])
    unknown = [row(9, before=None, after=None, excluded="too long")] * 3
    assert choose([*known, *unknown], OPEN)[1] == choose(known, OPEN)[1]
    assert limit([], 1.0) is None


@pytest.mark.parametrize("control", ["random", "loss"])
def test_a_control_mends_as_much_elsewhere(control):
    after = [float(number % 37) for number in range(200)]
    given = rows(before=after, after=after, judged=[float((number * 7) % 11) for number in range(200)])
    given[0] = replace(given[0], excluded="too long", loss_before=None, loss_after=None, quality=None)
    real, _ = choose(given, OPEN)
    held, _ = choose(given, MiddoConfig(cap=1, control=control, seed=1))
    assert [one.flags for one in held] == [one.flags for one in real]
    assert sorted(one.chosen for one in held) == sorted(one.chosen for one in real)
    assert [one.chosen for one in held] != [one.chosen for one in real]
    assert not held[0].chosen
    if control == "loss":
        taken, left = (
            [one.loss_after for one in held[1:] if bool(one.chosen) == is_taken] for is_taken in (True, False)
        )
        assert min(taken) >= max(left)
    else:
        other, _ = choose(given, MiddoConfig(cap=1, control=control, seed=2))
        assert [one.chosen for one in other] != [one.chosen for one in held]
        turned, _ = choose(given[::-1], MiddoConfig(cap=1, control=control, seed=1))
        assert {one.example for one in turned if one.chosen} == {one.example for one in held if one.chosen}


def test_the_reasons_name_the_figures():
    found, limits = choose(rows(before=[1, 1, 1, 1, 5], after=[1, 1, 1, 5, 5], judged=[8, 8, 7.5, 8, 2]), OPEN)
    hard, low = explain(found[4], limits)
    assert hard == (
        "hard to learn: 5 (over 3.4; the mean is 1.8) before the training and 5 (over 4.56; the mean is 2.6) after it, "
        "in nats a token of its response"
    )
    assert "2 (under 4.06; the mean is 6.7)" in low
    assert explain(found[0], limits) == []
    assert "others of the set are worse" in explain(replace(found[4], chosen=["low"]), limits)[0]
    assert explain(replace(found[0], chosen=["low"]), limits) == [
        "chosen as a control, in the place of one that is low"
    ]


def test_half_of_the_questions_are_about_the_prompt_alone():
    assert [question.response for question in METHOD.questions.values()] == [False] * 3 + [True] * 3
    assert all(name.startswith("response") == question.response for name, question in QUESTIONS.items())
