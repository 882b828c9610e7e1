"""Figures come from the items of their measure, whatever the kind of an item says."""

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
