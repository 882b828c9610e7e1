"""Figures come from the items of their measure, whatever an item's outcome says."""

from tasks.core.records import Result
from tasks.stages.evaluate.exams import Exam
from tasks.stages.evaluate.params import EvaluateParams
from tasks.stages.evaluate.summarise import summarise


def loss(number: int) -> Result:
    return Result("domain", f"d{number}", f"g{number}", None, 20.0, 10, 40, "", "")


def answer(number: int, outcome: str, measure: str = "pass@1") -> Result:
    return Result(measure, f"t{number}", f"g{number}", "short", float(outcome == "passed"), 1, 1, outcome, "")


def summary(*rows: Result) -> dict:
    return summarise(rows, [(Exam("", []), None)], EvaluateParams())


def test_an_answer_without_an_outcome_is_no_loss():
    found = summary(loss(1), loss(2), answer(1, "passed"), answer(2, ""), answer(1, "", "sample 0"))
    assert [name for name, figures in found.items() if "loss" in figures] == ["domain"]
    assert found["domain"]["loss"] == 2.0
    assert {tier: (one["value"], one["n"]) for tier, one in found["pass@1"].items()} == {
        "all": (0.5, 2),
        "short": (0.5, 2),
    }
