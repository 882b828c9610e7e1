"""Logs that inspect-ai and lm-evaluation-harness wrote themselves (`data/logs/make.py`) are paired and compared."""

import functools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from flows import commands
from flows.experiments.logs import archive, comparison, inspect_logs, reading, rendering
from flows.experiments.logs.page import page
from tasks.core.statistics import mcnemar

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).parent / "data/logs"
SMALL, LARGE = LOGS / "sums-small.eval", LOGS / "sums-large.eval"
FIRST, SECOND = LOGS / "choice-first", LOGS / "choice-second"


def by_measure(report):
    return {one.measure: one for one in report.comparisons}


def read_scores(folder, measure):
    """The scores of a log of lm-evaluation-harness, in the order of its items."""
    rows = [json.loads(line) for file in folder.glob("samples_*") for line in file.read_text().splitlines()]
    return [row[measure] for row in rows if measure in row]


def test_a_comparison_says_what_the_statistics_say():
    report = comparison.compare([SMALL, LARGE])
    match = by_measure(report)["match"]
    with archive.Archive(SMALL) as one, archive.Archive(LARGE) as two:
        before, after = (
            {row["id"]: row["scores"]["match"]["value"] == "C" for row in log.read_json("summaries.json")}
            for log in (one, two)
        )
    pairs = [(before[item], after[item]) for item in before]
    assert match.items == 24
    assert (match.rose, match.fell) == (pairs.count((False, True)), pairs.count((True, False)))
    assert match.difference.value == pytest.approx((sum(after.values()) - sum(before.values())) / 24)
    assert match.p == pytest.approx(mcnemar(list(before.values()), list(after.values())))
    assert match.adjusted == pytest.approx(min(1, 4 * match.p)), "it is the least of four"
    assert match.verdict == "higher"
    assert match.test == comparison.MCNEMAR
    assert by_measure(report)["closeness"].test == comparison.FLIPS
    assert by_measure(report)["closeness"].verdict == "open"


def test_other_order_other_sign():
    up, down = (by_measure(comparison.compare(paths))["match"] for paths in ([SMALL, LARGE], [LARGE, SMALL]))
    assert (up.difference.value, up.p, up.rose) == (-down.difference.value, down.p, down.fell)
    assert down.verdict == "lower"


def test_logs_of_lm_evaluation_harness_have_the_figures_of_other_programs():
    """Of 24 items 2 rise and 4 fall by `acc`, 3 and 4 by `acc_norm`, and none by `exact_match`: as scipy has it, or by hand."""
    report = by_measure(comparison.compare([FIRST, SECOND]))
    changes = {measure: (row.rose, row.fell) for measure, row in report.items()}
    assert changes == {"acc": (2, 4), "acc_norm": (3, 4), "exact_match": (0, 0)}
    for measure, row in report.items():
        before, after = (read_scores(folder, measure) for folder in (FIRST, SECOND))
        assert row.difference.value == pytest.approx(np.mean(after) - np.mean(before))
        for level, values in ((row.before, before), (row.after, after)):
            exact = stats.binomtest(int(sum(values)), 24).proportion_ci()
            assert (level.value, level.low, level.high) == pytest.approx((np.mean(values), exact.low, exact.high))
    tests = {measure: stats.binomtest(up, up + down) for measure, (up, down) in changes.items() if up + down}
    assert {measure: report[measure].p for measure in tests} == pytest.approx(
        {measure: test.pvalue for measure, test in tests.items()}
    )
    assert {row.adjusted for row in report.values()} == {1.0}, "three times 0.6875, and no less for the others"
    assert [row.verdict for row in report.values()] == ["open", "open", "equal"]

    highs = {measure: (2 * test.proportion_ci().high - 1) * test.n / 24 for measure, test in tests.items()}
    assert {measure: report[measure].difference.high for measure in tests} == pytest.approx(highs), "by direction"
    chances = functools.reduce(np.convolve, [np.array([4, 18, 2]) / 24] * 24)  # of sums of 24 draws from -24 on
    tail = stats.norm.cdf(-math.sqrt(24 / 23) * stats.t.ppf(0.975, 23))  # Hesterberg's, of few items
    assert report["acc"].difference.low == pytest.approx((np.searchsorted(chances.cumsum(), tail) - 24) / 24)
    rare = 1 - 0.025 ** (1 / 24)  # none of 24
    assert (report["exact_match"].difference.low, report["exact_match"].difference.high) == pytest.approx((-rare, rare))


def test_a_difference_that_is_decided_alone_is_open_among_three_measures(tmp_path):
    """The second log is given the accuracy of the first one, and six right answers more: the chance of that is 2 / 2⁶."""
    log = shutil.copytree(SECOND, tmp_path / "six-more")
    (file,) = log.glob("samples_sums_choice_20*")
    scores = read_scores(FIRST, "acc")
    for item in [item for item, score in enumerate(scores) if not score][:6]:
        scores[item] = 1.0
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row | {"acc": score}) + "\n" for row, score in zip(rows, scores, strict=True)))
    among = by_measure(comparison.compare([FIRST, log]))["acc"]
    (alone,) = comparison.compare([FIRST, log], measures=["acc"]).comparisons
    assert (among.p, among.adjusted, among.verdict) == (2 / 2**6, 3 * 2 / 2**6, "open")
    assert (alone.p, alone.adjusted, alone.verdict) == (2 / 2**6, 2 / 2**6, "higher")


def test_epochs_are_averaged_and_it_is_said():
    report = comparison.compare([SMALL, LOGS / "sums-epochs.eval"])
    match = by_measure(report)["match"]
    (task,) = reading.read(LOGS / "sums-epochs.eval").tasks.values()
    assert {item.scores["match"] for item in task.items.values()} <= {0.0, 0.5, 1.0}
    assert match.items == 12
    text = rendering.text(report)
    assert "12 items with several scores (epochs), 2 at most: each item counts once" in text
    assert "an item has at most 1 score and 2 scores" in text


def test_a_group_is_one_unit():
    alone, grouped = (by_measure(comparison.compare([SMALL, LARGE], group=group))["match"] for group in (None, "first"))
    assert (alone.difference.n, grouped.difference.n) == (24, 6)
    assert grouped.difference.value == alone.difference.value
    assert grouped.p >= 2 / 2**6
    with pytest.raises(ValueError, match=r"no field 'subject' to group by\. Its fields: first"):
        comparison.compare([SMALL, LARGE], group="subject")


def test_the_correction_counts_every_pair_and_measure():
    three = [SMALL, LARGE, LOGS / "sums-other.eval"]
    assert len(comparison.compare(three).comparisons) == 8
    everything = comparison.compare(three, all_pairs=True)
    assert len(everything.comparisons) == 12
    one = comparison.compare([SMALL, LARGE], measures=["match"]).comparisons
    assert [row.adjusted for row in one] == [row.p for row in one]
    assert (
        everything.comparisons[1].power.items > by_measure(comparison.compare([SMALL, LARGE]))["closeness"].power.items
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("sums-other.eval", ["the task has another version: 0 and 2", "answered by other steps or prompt templates"]),
        (
            "sums-failed.eval",
            [
                "did not end (status error): 11 answers of 24",
                "could not convert string to float",
                "2 answers ended in an error: sum-4-14, sum-4-25",
                "closeness: 1 shared item without this score",
            ],
        ),
        (
            "sums-first.json",
            [
                "partial overlap: 12 items in both and compared; 12 in sums-small alone and 0 in sums-first alone, left out"
            ],
        ),
    ],
)
def test_what_sets_two_logs_apart_is_said(other, said):
    text = rendering.text(comparison.compare([SMALL, LOGS / other]))
    assert [sentence for sentence in said if sentence not in text] == []


def test_other_prompts_are_counted():
    report = comparison.compare(
        [next(FIRST.glob("samples_sums_choice_20*")), next((LOGS / "choice-polite").glob("samples_*"))]
    )
    text = rendering.text(report)
    assert "24 of 24 shared items (0, 1, 2, …) with different prompts, still compared" in text
    assert "the tasks have other names: sums_choice and sums_polite" in text


def test_a_log_that_is_given_twice(tmp_path):
    copy = shutil.copy(SMALL, tmp_path / "copy.eval")
    for other in (SMALL, copy):
        with pytest.raises(
            ValueError, match=r"One log is given twice: .*sums-small\.eval and .* have the same contents"
        ):
            comparison.compare([SMALL, other])
    log = json.loads((LOGS / "sums-first.json").read_text())
    (tmp_path / "again.json").write_text(json.dumps(log, indent=1))
    with pytest.raises(ValueError, match=r"One run is given twice"):
        comparison.compare([LOGS / "sums-first.json", tmp_path / "again.json"])


def test_one_log_is_no_comparison():
    with pytest.raises(ValueError, match="takes two logs or more"):
        comparison.compare([SMALL])


def test_logs_of_two_harnesses_share_no_item():
    with pytest.raises(ValueError, match=r"no item of task sums in common: 24 and 24 items, with ids such as sum-2-3"):
        comparison.compare([SMALL, next(FIRST.glob("samples_sums_choice_20*"))])
    with pytest.raises(ValueError, match=r"share no task: sums and sums_choice, sums_choice_words"):
        comparison.compare([SMALL, FIRST])


def test_equal_ids_of_other_items_are_not_paired(lines):
    one = [{"id": n, "target": f"t{n}", "score": n % 2} for n in range(10)]
    some = [row | {"target": "else"} if row["id"] < 3 else row for row in one]
    most = [row | {"target": "else"} if row["id"] < 6 else row for row in one]
    report = comparison.compare([lines("a.jsonl", one), lines("b.jsonl", some)])
    assert report.comparisons[0].items == 7
    assert "3 of 10 shared items (0, 1, 2) with equal ids: another target or document, left out" in rendering.text(
        report
    )
    with pytest.raises(ValueError, match=r"are logs of other items: of 10 shared ids, 6 have another target"):
        comparison.compare([lines("a.jsonl", one), lines("c.jsonl", most)])


def test_a_log_without_targets_is_paired_with_one_that_has_them(lines):
    bare = [{"id": n, "score": n % 2} for n in range(10)]
    full = [row | {"target": f"t{row['id']}", "prompt": f"p{row['id']}"} for row in bare]
    (row,) = comparison.compare([lines("a.jsonl", bare), lines("b.jsonl", full)]).comparisons
    assert (row.items, row.pair.warnings[1:]) == (10, ())
    twice = comparison.compare([lines("c.jsonl", [*full, *bare]), lines("d.jsonl", bare)])
    assert twice.comparisons[0].items == 10
    null = [row | {"target": None} for row in bare]
    assert comparison.compare([lines("e.jsonl", null), lines("b.jsonl", full)]).comparisons[0].items == 10


@pytest.mark.parametrize("target", [{"target": ""}, {"target": None}, {"reference": ""}, {"reference": "A"}])
def test_what_a_model_said_is_no_target_where_another_field_is_one(lines, target):
    one, other = ([{"id": n, "score": n % 2, "answer": f"{who}{n}"} | target for n in range(10)] for who in "AB")
    assert comparison.compare([lines("a.jsonl", one), lines("b.jsonl", other)]).comparisons[0].items == 10
    twice = comparison.compare([lines("c.jsonl", [*one, *other]), lines("d.jsonl", [*other, *one])])
    assert twice.comparisons[0].items == 10, "of two epochs"


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("bare", [{}, {"group": ""}])
def test_items_have_the_group_that_any_of_their_answers_has_whatever_the_order(lines, turn, bare):
    pairs = [({"id": n, "score": n % 2} | bare, {"id": n, "score": 1, "group": n % 3}) for n in range(12)]
    one = [line for pair in pairs for line in pair[::turn]]
    other = [line | {"score": 0} for line in one]
    (row,) = comparison.compare([lines("a.jsonl", one), lines("b.jsonl", other)], group="group").comparisons
    assert row.difference.n == 3


def test_items_have_the_target_that_any_of_their_answers_has(lines):
    bare = [{"id": n, "score": n % 2} for n in range(10)]
    one, other = ([row | {"target": target} for row in bare] for target in ("x", "y"))
    with pytest.raises(ValueError, match="are logs of other items"):
        comparison.compare([lines("a.jsonl", [*bare, *one]), lines("b.jsonl", other)])


def test_samples_without_a_target_are_paired_with_those_that_have_one(tmp_path):
    log = json.loads((LOGS / "sums-first.json").read_text())
    log["eval"]["eval_id"] = "another"
    for sample in log["samples"]:
        sample["target"] = ""  # inspect-ai's own where a data set has none
    (tmp_path / "bare.json").write_text(json.dumps(log))
    assert comparison.compare([LOGS / "sums-first.json", tmp_path / "bare.json"]).comparisons[0].items == 12
    shutil.copytree(FIRST, tmp_path / "first")
    for file in (tmp_path / "first").glob("samples_*"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        bare = [{name: value for name, value in row.items() if name not in ("doc", "doc_hash")} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in bare))
    assert comparison.compare([FIRST, tmp_path / "first"]).comparisons[0].items == 24


def test_all_right_all_wrong_and_ties(lines):
    right = lines("right.jsonl", [{"id": n, "score": 1} for n in range(10)])
    also = lines("also.jsonl", [{"id": n, "score": True, "note": "x"} for n in range(10)])
    wrong = lines("wrong.jsonl", [{"id": n, "score": 0} for n in range(10)])
    mixed = lines("mixed.jsonl", [{"id": n, "score": n / 10} for n in range(10)])
    again = lines("again.jsonl", [{"id": n, "score": n / 10, "note": "x"} for n in range(10)])
    (equal,) = comparison.compare([right, also]).comparisons
    assert (equal.verdict, equal.p, equal.power.items) == ("equal", 1.0, None)
    assert equal.remarks == ("every item scores 1 in both logs: they cannot be told apart by these items",)
    assert equal.before.low == pytest.approx(0.025 ** (1 / 10)), "exact, none of ten wrong"
    assert 0 < equal.difference.high < 1
    (apart,) = comparison.compare([right, wrong]).comparisons
    assert (apart.verdict, apart.p, apart.difference.value) == ("lower", 2 / 2**10, -1.0)
    (ties,) = comparison.compare([mixed, again]).comparisons
    assert ties.remarks == ("all items are ties: no score differs",)
    assert 0 < ties.difference.high < 1, "ten scores that stayed do not say that none changes"


def test_inputs_of_messages_are_compared_without_their_ids():
    messages = [{"id": "x1", "role": "user", "content": [{"type": "text", "text": "What?"}]}]
    other = [{"id": "y2", "role": "user", "content": "What?"}]
    assert inspect_logs._text(messages) == inspect_logs._text(other) == "user: What?"


def test_the_page_is_one_file_that_loads_nothing_and_shows_what_a_log_says_as_text(lines, tmp_path):
    evil = "<script>alert(1)</script>\u202e"
    one = lines("a.jsonl", [{"id": f"{evil}{n}", "score": n % 2, "model": evil} for n in range(8)])
    two = lines("b.jsonl", [{"id": f"{evil}{n}", "score": 1} for n in range(8)])
    html = page(comparison.compare([one, two]))
    assert "<script" not in html
    assert "\u202e" not in html
    assert re.findall(r"(?:src|href)=|url\(|https?://", html) == []
    assert "default-src 'none'" in html
    assert "\u202e" not in rendering.text(comparison.compare([one, two]))
    genuine = page(comparison.compare([SMALL, LARGE]))
    assert genuine.count("<circle") == 4
    places = [float(place) for place in re.findall(r'<circle [^>]*cx="([\d.]+)%"', genuine)]
    assert places[0] > places[1] > places[2] == 50, "in per cent, so that the text keeps its size on a phone"
    assert "viewBox" not in genuine
    assert "+0.375 [+0.080, +0.625]" in genuine


def test_the_command_works_where_there_is_no_workspace(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "flows.commands",
            "compare-logs",
            str(SMALL),
            str(LARGE),
            "--json",
            "--page",
            "page.html",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    assert [row["measure"] for row in record["comparisons"]] == ["match", "closeness", "form.short", "form.digits"]
    assert record["comparisons"][0]["items_to_decide"] > 24
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "numpy" in imported
    assert imported & {"torch", "transformers", "prefect", "dvc", "mlflow", "inspect_ai", "lm_eval"} == set()


def test_a_page_takes_the_place_of_no_folder(capsys, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit) as end:
        commands.main(["compare-logs", str(SMALL), str(LARGE), "--page", str(tmp_path)])
    assert end.value.code == 1
    assert f"--page {tmp_path}/comparison.html" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_error_is_one_message(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        commands.main(["compare-logs", str(SMALL), str(tmp_path / "absent.eval")])
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_how_to_page_shows_what_the_command_prints():
    text = (ROOT / "docs/pages/how-to/compare-logs.md").read_text()
    assert rendering.text(comparison.compare([SMALL, LARGE])) in text
    assert rendering.text(comparison.compare([SMALL, LOGS / "sums-failed.eval"], measures=["match"])) in text
