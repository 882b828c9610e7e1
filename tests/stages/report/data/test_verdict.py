"""The verdict follows from the intervals, and names the questions that they leave undecided."""

import math

import pytest

from tasks.core.statistics import Estimate
from tasks.stages.report.data.comparison import Comparison, Row
from tasks.stages.report.data.verdict import (
    WORDS,
    Verdict,
    compute_verdict,
    count_changes,
    judge_domain,
    judge_general,
)

MARGIN = 0.05
DOMAIN = {"better": (-0.3, -0.1), "worse": (0.1, 0.3), "not decided": (-0.1, 0.2)}
GENERAL = {"no worse": (-0.01, 0.04), "worse": (0.06, 0.09), "not decided": (0.01, 0.08)}


def verdict(domain: tuple[float, float], general: tuple[float, float], measure: str = "domain") -> Verdict:
    rows = [_row(measure, *domain), _row("general", *general)]
    return compute_verdict(Comparison("base", "r0", rows, {}), MARGIN)


def _row(measure: str, low: float, high: float) -> Row:
    middle = Estimate((low + high) / 2, low, high, 9)
    return Row(measure, "", "nats/token", 9, Estimate(2, 1, 3, 9), Estimate(2, 1, 3, 9), middle)


@pytest.mark.parametrize("answer", WORDS)
def test_each_pair_of_answers_has_its_words(answer):
    result = verdict(DOMAIN[answer[0]], GENERAL[answer[1]])
    assert (result.here, result.elsewhere) == answer
    assert result.sentence.startswith(WORDS[answer].format(name="r0"))


def test_there_are_words_for_all_nine_pairs_and_none_twice():
    assert len(WORDS) == len(set(WORDS.values())) == len(DOMAIN) * len(GENERAL) == 9


def test_the_sentence_is_one_and_shows_its_evidence():
    assert verdict((-0.3, -0.1), (-0.01, 0.04)).sentence == (
        "r0 is better here and no worse elsewhere: domain loss −0.200 [−0.300, −0.100] nats per token, "
        "general loss +0.015 [−0.010, +0.040] against a margin of +0.050."
    )


def test_the_evidence_names_the_loss_that_decided():
    result = verdict((-0.3, -0.1), (-0.01, 0.04), "domain_text")
    assert result.here == "better"
    assert result.evidence.startswith("domain text loss −0.200 [−0.300, −0.100] nats per token, general loss +0.015 ")


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.0), (0.0, 0.1), (0.0, 0.0)])
def test_an_interval_that_touches_zero_decides_nothing_here(low, high):
    assert judge_domain(Estimate(0, low, high, 9)) == "not decided"


@pytest.mark.parametrize(("low", "high"), [(0.0, MARGIN), (MARGIN, 0.1)])
def test_an_interval_that_touches_the_margin_decides_nothing_elsewhere(low, high):
    assert judge_general(Estimate(MARGIN, low, high, 9), MARGIN) == "not decided"


def test_a_general_loss_that_surely_rises_below_the_margin_is_no_worse():
    assert judge_general(Estimate(0.02, 0.01, 0.03, 9), MARGIN) == "no worse"


def test_a_single_group_decides_nothing_and_says_that_there_is_no_interval():
    result = verdict((-math.inf, math.inf), (-math.inf, math.inf))
    assert (result.here, result.elsewhere) == ("not decided", "not decided")


def test_what_is_worse_for_certain_is_named():
    share = Row("pass@1", "long", "share", 9, *[Estimate(0.5, 0.4, 0.6, 9)] * 2, Estimate(-0.2, -0.3, -0.1, 9))
    undecided = Row("pass@1", "all", "share", 9, *[Estimate(0.5, 0.4, 0.6, 9)] * 2, Estimate(-0.2, -0.3, 0.1, 9))
    rows = [_row("domain", -0.3, -0.1), _row("general", -0.1, 0.1), share, undecided]
    words = count_changes(Comparison("base", "r0", rows, {}))
    assert words == "Of 4 figures, 1 is better by its interval, and worse: pass@1 (long)."
    assert (
        count_changes(Comparison("base", "r0", rows[:2], {}))
        == "Of 2 figures, 1 is better by its interval and none is worse."
    )
    assert count_changes(Comparison("base", "r0", [], {})) == ""
