"""Measures that not every run has: passes with the level of the sandbox, HumanEval, and scores by other checks."""

import json
import re
from dataclasses import replace

from tests.stages.report.material import (
    drawn,
    human_eval,
    results,
    run_stage,
)
from tests.stages.report.reading import page
from tests.stages.report.test_stage import BETTER


def test_the_level_of_the_sandbox_stands_beside_the_score(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER, metrics={"settings": {"sandbox": 2}})
    level = "sandbox of level 2"
    assert f"pass@1, per cent (programs run in a {level})" in (folder / "summary.txt").read_text(encoding="utf-8")
    assert level in page(folder).text
    assert level in (folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((folder / "summary.json").read_text())["comparisons"]["r0"]["sandbox"] == 2


def test_passes_that_their_programs_could_have_spoilt_are_reported(tmp_path):
    spoilt = [replace(row, inside=row.measure == "pass@1") for row in BETTER["r0"]]
    folder, _ = run_stage(tmp_path, BETTER | {"r0": spoilt})
    number = sum(row.value for row in spoilt if row.inside)
    assert 0 < number < sum(row.inside for row in spoilt)
    sentence = f"which could have spoilt them: 0 of base and {number:.0f} of r0."
    assert sentence in " ".join((folder / "summary.txt").read_text(encoding="utf-8").split())
    assert sentence in page(folder).text
    assert sentence in (folder / "README.md").read_text(encoding="utf-8")
    assert sentence in json.loads((folder / "summary.json").read_text())["comparisons"]["r0"]["inside"]
    folder, _ = run_stage(tmp_path / "clean", BETTER)
    assert "spoilt" not in (folder / "summary.txt").read_text(encoding="utf-8") + page(folder).text


def test_pass_at_1_that_was_not_run_says_why(tmp_path):
    models = {"base": results(), "r0": results(domain=1.5)}
    reason = {"pass@1": {"not_run": "no sandbox on this machine"}}
    folder, _ = run_stage(tmp_path, models, metrics=reason)
    assert "  not run: no sandbox on this machine\n" in (folder / "summary.txt").read_text(encoding="utf-8")
    assert "Not run: no sandbox on this machine." in page(folder).text
    assert "pass@1 was not run: no sandbox on this machine." in (folder / "README.md").read_text(encoding="utf-8")


SCORES = {
    "version": "0.4.13",
    "scores": {"arc_easy acc": {"value": 0.5, "low": 0.4, "high": 0.6, "error": 0.05, "n": 99}},
}
MORE = {
    name: rows + drawn([passed, 1, 0]) + human_eval([True, passed > 1, False]) + drawn([passed, 4], exam="human_eval ")
    for (name, rows), passed in zip(BETTER.items(), (1, 2), strict=True)
}


def test_measures_that_are_not_always_there_stand_in_every_table_where_they_are(tmp_path):
    folder, run = run_stage(tmp_path, MORE, metrics={"harness": SCORES})
    text = (folder / "summary.txt").read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"^  sampled pass@2 +3 +33\.3 \[.*\] +44\.4 \[.*\] +\+11\.1", text, re.MULTILINE)
    exams = r"^HumanEval, per cent\n  pass@1 +3 +33\.3 .*\n  sampled pass@1 +2 +62\.5 .*\n  sampled pass@2 "
    assert re.search(exams, text, re.MULTILINE)
    assert re.search(r"^standard benchmarks\n  arc_easy acc +99  0\.500 \[0\.401, 0\.599\]", text, re.MULTILINE)
    assert "one of k drawn answers passes" in " ".join(text.split())
    assert "differences are not paired" in " ".join(text.split())
    rows = json.loads((folder / "summary.json").read_text())["comparisons"]["r0"]["rows"]
    assert {"HumanEval pass@1", "arc_easy acc"} <= {row["measure"].replace("human_eval", "HumanEval") for row in rows}
    assert run.metrics[0][1].keys() >= {"r0_human_eval_pass_at_1_difference", "r0_arc_easy_acc_difference"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| HumanEval sampled pass@2 | % | 2 |" in card
    assert "| arc_easy acc | score | 99 |" in card
    assert not page(folder).open


def test_where_they_are_not_the_report_does_not_speak_of_them(tmp_path):
    folder, _ = run_stage(tmp_path, BETTER)
    for name in ("summary.txt", "index.html", "README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not [word for word in ("HumanEval", "sampled", "standard benchmark", "drawn answers") if word in text]


def test_the_page_counts_how_the_answers_of_each_model_ended(tmp_path):
    text = " ".join(page(run_stage(tmp_path, MORE)[0]).text.split())
    assert "held-out tasks, first answers outcome base r0 passed 10 10 syntax 10 10" in text
    assert "held-out tasks, drawn answers outcome base r0 passed 2 3 timeout 10 9" in text
    assert "HumanEval, first answers outcome base r0 passed 1 2 import 2 1" in text


def test_human_eval_that_was_not_run_says_why(tmp_path):
    reason = {"human_eval": {"pass@1": {"not_run": "no sandbox on this machine"}}}
    folder, _ = run_stage(tmp_path, BETTER, metrics=reason)
    text = (folder / "summary.txt").read_text(encoding="utf-8")
    assert "HumanEval, per cent\n  not run: no sandbox on this machine\n" in text
    assert "HumanEval was not run: no sandbox on this machine." in page(folder).text
    assert "HumanEval was not run: no sandbox on this machine." in (folder / "README.md").read_text(encoding="utf-8")
