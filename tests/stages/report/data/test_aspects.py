"""Utility, faithfulness and safety are told in every report, also where nothing measured them."""

import json

import pytest

from tasks.core.statistics import Estimate
from tasks.stages.report.config import AspectsConfig
from tasks.stages.report.data.aspects import HINTS, aspects
from tasks.stages.report.data.comparison import Comparison, Row
from tests.stages.report.material import Round, results, run_stage

ZERO = Estimate(0.0, 0.0, 0.0, 3)


def row(measure, unit="score", part=""):
    return Row(measure, part, unit, 3, ZERO, ZERO, ZERO)


def test_every_measure_has_one_aspect_and_what_nothing_names_is_utility():
    rows = [
        row("domain", "nats/token"),
        row("domain", "bits/byte"),
        row("toxigen acc"),
        row("truthfulqa_mc2 acc"),
        row("edit success", "share", "p"),
    ]
    found = aspects(Comparison("base", "r0", rows, {}), AspectsConfig())
    assert {one.name: [row.measure for row in one.rows] for one in found} == {
        "utility": ["domain"],
        "faithfulness": ["truthfulqa_mc2 acc"],
        "safety": ["toxigen acc"],
    }
    assert [one.name for one in aspects(Comparison("base", "r0", rows[:1], {}), AspectsConfig())] == list(HINTS)
    own = aspects(Comparison("base", "r0", rows, {}), AspectsConfig(safety=("domain",)))
    assert [row.measure for row in own[2].rows] == ["domain"]


@pytest.mark.parametrize("turn", [None, Round()], ids=["one round", "a loop"])
def test_no_form_of_the_report_hides_what_was_not_measured(tmp_path, turn):
    models = {"base": results(), "r0": results()} | ({"r1": results()} if turn else {})
    folder, _ = run_stage(tmp_path, models, **({"turn": turn} if turn else {}))
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["aspects"]) == list(HINTS)
    assert summary["aspects"]["safety"] == []
    assert summary["aspects"]["utility"]
    for name in ("summary.txt", "README.md", "index.html"):
        text = " ".join((folder / name).read_text().replace("</th><td>", " ").split())
        for aspect in ("faithfulness", "safety"):
            start = text.lower().index(
                f"{aspect}: not measured"
                if name == "summary.txt"
                else f"{aspect} {'| ' if name == 'README.md' else ''}not measured"
            )
            assert "evaluate.harness" in text[start : start + 120], "with what would do"
    assert sum(summary["origins"]["as read" if not turn else "r1"].values()) >= 1
    assert f"Origins of the examples {'of r1' if turn else 'as read'}: " in (folder / "summary.txt").read_text()
