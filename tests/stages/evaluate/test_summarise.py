"""Figures come from the items of their measure, whatever the kind of an item says."""

import math
from dataclasses import replace

from tasks.core.records import Result
from tasks.stages.evaluate.config import EvaluateConfig
from tasks.stages.evaluate.problem_sets import ProblemSet
from tasks.stages.evaluate.summarise import summarise


def loss(number: int) -> Result:
    return Result("domain", f"d{number}", f"g{number}", None, 20.0, 10, 40, "", "")


def answer(number: int, kind: str, measure: str = "pass@1") -> Result:
    return Result(measure, f"t{number}", f"g{number}", "short", float(kind == "passed"), 1, 1, kind, "")


def summary(*rows: Result) -> dict:
    return summarise(rows, [(ProblemSet("", []), None)], EvaluateConfig())


def test_an_answer_without_a_kind_is_no_loss():
    measures = summary(loss(1), loss(2), answer(1, "passed"), answer(2, ""), answer(1, "", "sample 0"))
    assert [name for name, figures in measures.items() if "loss" in figures] == ["domain"]
    assert measures["domain"]["loss"] == 2.0
    assert {tier: (estimate["value"], estimate["n"]) for tier, estimate in measures["pass@1"].items()} == {
        "all": (0.5, 2),
        "short": (0.5, 2),
    }


def test_a_loss_that_is_no_number_is_null():
    figures = summary(loss(1), replace(loss(2), value=math.nan))["domain"]
    assert [figures[name] for name in ("loss", "low", "high", "bits_per_byte", "items", "groups")] == [None] * 4 + [
        2,
        2,
    ]


def test_a_loss_is_told_by_task_where_there_are_several():
    rows = [
        replace(loss(number), task="radio" if number < 3 else "routing", value=10.0 * number) for number in range(1, 6)
    ]
    told = summary(*rows)["domain"]
    assert {name: (part["loss"], part["items"]) for name, part in told["tasks"].items()} == {
        "radio": (1.5, 2),
        "routing": (4, 3),
    }
    assert "tasks" not in summary(loss(1), loss(2))["domain"]
