"""The report shows what checks measured: accuracy with its interval and test, macro-F1, parts by domain, and what was not run."""

import json
import re
from dataclasses import replace

import pytest

from tasks.core import classification, paired, statistics
from tasks.core.records import Result
from tests.stages.report import material


def graded(measure, values, domains=("all",), labels=None, groups=1000):
    return [
        Result(
            measure, f"t{n}", f"g{n % groups}", None, float(v), 1, 1, "passed" if v == 1 else "truncated" if n % 2 else "wrong",
            f"so it is {n}", parsed=labels[n] if labels else str(n), expected="xy"[n % 2], domain=domains[n % len(domains)],
        )
        for n, v in enumerate(values)
    ]  # fmt: skip


BEFORE = [n % 4 == 0 for n in range(40)]
AFTER = [n % 4 == 0 or n % 3 == 0 for n in range(40)]
LABELS = [["xy"[n % 2] if n % 4 == 0 else "x" for n in range(40)], ["xy"[n % 2] if n % 3 else "" for n in range(40)]]


@pytest.fixture
def report(tmp_path):
    def of(base, tuned, metrics=None):
        models = {
            "base": [*material.losses("domain", 2.0), *base],
            "r0": [*material.losses("domain", 1.9), *tuned],
        }
        folder, run = material.run_stage(tmp_path, models, metrics=metrics)
        summary = json.loads((folder / "summary.json").read_text())
        return folder, run, {(row["measure"], row["part"]): row for row in summary["comparisons"]["r0"]["rows"]}

    return of


def test_accuracy_has_its_interval_the_paired_difference_and_mcnemars_test(report):
    folder, run, rows = report(graded("number accuracy", BEFORE), graded("number accuracy", AFTER))
    row = rows["number accuracy", ""]
    assert row["after"] == statistics.proportion(sum(AFTER), 40).record()
    assert row["difference"]["value"] == pytest.approx((sum(AFTER) - sum(BEFORE)) / 40)
    assert row["mcnemar_p"] == round(statistics.mcnemar(BEFORE, AFTER), 6)
    text = (folder / "summary.txt").read_text()
    assert re.search(r"checked answers, per cent\n  number accuracy +40  25\.0 \[12\.7, 41\.2\]", text)
    assert "pass@1, per cent" not in text
    assert "Accuracy: the share of held-out questions" in " ".join(text.split())
    assert run.metrics[0][1]["r0_number_accuracy_difference"] == pytest.approx(0.25)
    page = (folder / "index.html").read_text()
    assert "number accuracy" in page
    assert re.search(r"taken for the answer: \d+ · expected: [xy]<", page)
    assert "truncated" in page


def test_domains_stand_below_their_measure_and_scores_are_tested_by_sign_flips(report):
    before = graded("json score", [0.5] * 40, ["orders.v1", "bills"])
    after = graded("json score", [0.5 + n / 100 for n in range(40)], ["orders.v1", "bills"])
    folder, run, rows = report(before, after)
    assert rows["json score", "bills"]["items"] == 20
    assert "mcnemar_p" not in rows["json score", ""]
    assert rows["json score", ""]["sign_flip_p"] == round(paired.sign_flip([n / 100 for n in range(40)]), 6) < 0.001
    assert rows["json score", ""]["difference"]["low"] > 0
    assert "    orders.v1" in (folder / "summary.txt").read_text()
    assert "r0_json_score_orders_v1_difference" in run.metrics[0][1]


def test_a_task_of_a_domains_name_stands_beside_it_and_an_unnamed_one_is_no_part(report):
    tasks = ["math"] * 2 + ["code"] * 18 + [""] * 20
    after = [
        replace(row, task=task)
        for row, task in zip(graded("json score", [1.0] * 2 + [0.0] * 38, ["math", "bills"]), tasks, strict=True)
    ]
    folder, run, rows = report(after, after)
    items = {part: row["items"] for (measure, part), row in rows.items() if measure == "json score"}
    assert items == {"": 40, "bills": 20, "math": 20, "code": 18, "math (task)": 2}
    assert [rows["json score", part]["after"]["value"] for part in ("math", "math (task)")] == [0.05, 1]
    for name in ("summary.txt", "README.md"):
        assert "math (task)" in (folder / name).read_text(), name
    assert {"r0_json_score_math_difference", "r0_json_score_math_task_difference"} <= run.metrics[0][1].keys()


def test_a_task_that_data_name_takes_no_effect_in_a_table(report):
    """A column of the data may name it, and the summary is shown on a terminal."""
    name = "a|b <img src=x>\n[c](https://evil.example)\x1b[2J"
    sides = [
        [replace(row, task=name if n % 2 else "chat") for n, row in enumerate(graded("json score", [1.0, score] * 20))]
        for score in (0.9, 0.1)
    ]
    folder, run, rows = report(*sides)
    assert rows["json score", name]["items"] == 20
    card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    told, line = [line for line in card.splitlines() if "evil" in line]
    assert "and worse: json score, json score (a\\|b \\<img src=x\\> \\[c\\](https" in told
    assert re.sub(r"\\.", "", line).count("|") == 7
    assert "\\<img src=x\\> \\[c\\](https" in line
    for text in ((folder / "summary.txt").read_text(encoding="utf-8"), *run.said):
        assert "a|b <img src=x> [c](https://evil.example)\\u001b[2J" in text


def test_scores_of_one_group_are_flipped_together(report):
    """Twenty answers that rose in three groups are three rises: two flips of eight are as large."""
    before, after = (graded("rouge score", [value] * 20, groups=3) for value in (0.4, 0.6))
    folder, _, rows = report(before, after)
    assert rows["rouge score", ""]["sign_flip_p"] == 2 / 2**3
    assert re.search(r'rouge score</th>.*<td class="n">0\.250</td></tr>', (folder / "index.html").read_text())


def test_preferences_stand_below_the_answers_under_a_heading_of_their_own(report):
    folder, _, rows = report(graded("preference accuracy", BEFORE), graded("preference accuracy", AFTER))
    row = rows["preference accuracy", ""]
    assert row["after"] == statistics.proportion(sum(AFTER), 40).record()
    assert row["mcnemar_p"] == round(statistics.mcnemar(BEFORE, AFTER), 6)
    text = (folder / "summary.txt").read_text()
    assert re.search(r"\npreferences, per cent\n  preference accuracy +40  25\.0 \[12\.7, 41\.2\]", text)
    assert "checked answers" not in text
    assert "Preference accuracy: the share of held-out pairs" in " ".join(text.split())
    page = (folder / "index.html").read_text()
    assert "preference accuracy" in page
    assert "so it is 0" not in page, "the model wrote nothing that could be shown as its answer"


def judged(scores, agreements):
    """Results of a judge: one score of a half has no verdict, and so has the first pair on which it does not agree."""
    names = {0: "reference preferred", 0.5: "tie", 1: "passed"}
    score = [replace(row, outcome=names[row.value]) for row in graded("judge score", scores)]
    lost = scores.index(0.5)
    score[lost] = replace(score[lost], outcome="no verdict")
    return [*score, *graded("judge agreement", agreements)]


def test_a_judge_has_a_row_for_its_score_and_one_for_its_agreement(report):
    before, after = [n % 2 / 2 for n in range(40)], [(n % 2 + 1) / 2 for n in range(40)]
    agreements = [n > 3 for n in range(20)]
    folder, run, rows = report(judged(before, agreements), judged(after, agreements))
    score, agreement = rows["judge score", ""], rows["judge agreement", ""]
    groups = [f"g{n}" for n in range(40)]
    assert score["after"] == statistics.share(after, groups).record()
    assert score["difference"]["value"] == pytest.approx(0.5)
    assert "mcnemar_p" not in score
    assert agreement["after"] == statistics.proportion(16, 20).record()
    text = (folder / "summary.txt").read_text()
    assert re.search(r"\n  judge score +40  25\.0 \[", text)
    assert re.search(r"\n  judge agreement +20  80\.0 \[56\.3, 94\.3\]", text)
    assert "Judge agreement: the share of pairs with a known verdict" in " ".join(text.split())
    assert run.metrics[0][1]["r0_judge_score_difference"] == pytest.approx(0.5)
    page = (folder / "index.html").read_text()
    assert re.search(r'no verdict</th><td class="n">1</td><td class="n">1</td>', page)


def test_each_answer_is_shown_once_and_nothing_that_no_model_wrote(report):
    """What is planted for a judge are references, and a call has up to three measures beside its accuracy."""
    planted = [replace(row, output="the reference of another question") for row in graded("judge agreement", [1] * 8)]
    beside = [row for name in ("name accuracy", "schema validity") for row in graded(f"tool_call {name}", [1] * 8)]
    side = [*judged([0, 0.5, 1, 0], []), *planted, *graded("tool_call accuracy", [1] * 8), *beside]
    page = (report(side, side)[0] / "index.html").read_text()
    assert re.search(r"of 12 tasks, one of each kind in turn", page)
    assert "the reference of another question" not in page


def test_macro_f1_stands_beside_the_accuracy_of_labels(report):
    sides = [graded("labels accuracy", BEFORE, labels=labels) for labels in LABELS]
    _, _, rows = report(*sides)
    expected, groups = ["xy"[n % 2] for n in range(40)], [f"g{n}" for n in range(40)]
    difference = classification.macro_f1_difference(expected, *LABELS, groups)
    assert rows["labels macro-F1", ""]["difference"] == difference.record()
    assert not [key for key in rows["labels macro-F1", ""] if key.endswith("_p")], "it is no mean over items"


def test_a_check_that_was_not_run_is_named_with_the_reason(report):
    metrics = {"answers": {"judge score": {"not_run": "evaluate.judge names no server"}}}
    folder, _, _ = report([], [], metrics)
    for name in ("summary.txt", "index.html", "README.md"):
        assert "judge score" in (folder / name).read_text(), name
        assert "evaluate.judge names no server" in (folder / name).read_text(), name
