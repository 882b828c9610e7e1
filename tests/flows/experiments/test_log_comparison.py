"""Logs that inspect-ai and lm-evaluation-harness wrote themselves (`data/logs/make.py`) are read, paired, and compared."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from flows import commands
from flows.experiments.logs import archive, comparison, inspect_logs, reading, rendering, scores
from flows.experiments.logs.page import page
from tasks.core.statistics import mcnemar

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).parent / "data/logs"
SMALL, LARGE = LOGS / "sums-small.eval", LOGS / "sums-large.eval"
FIRST, SECOND = LOGS / "choice-first", LOGS / "choice-second"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def lines(tmp_path):
    """A function that writes rows to a file of JSON Lines of that name."""
    return lambda name, rows: write_lines(tmp_path / name, rows)


def by_measure(report):
    return {one.measure: one for one in report.comparisons}


def header(path):
    with archive.Archive(path) as log:
        return log.read_json("header.json")


@pytest.mark.parametrize("path", [SMALL, LARGE, LOGS / "sums-epochs.eval"], ids=lambda path: path.stem)
def test_our_means_are_those_that_inspect_reports(path):
    (task,) = reading.read(path).tasks.values()
    reported = {score["name"]: score["metrics"] for score in header(path)["results"]["scores"]}
    for name, measure in (
        ("match", "match"),
        ("closeness", "closeness"),
        ("short", "form.short"),
        ("digits", "form.digits"),
    ):
        values = [item.scores[measure] for item in task.items.values()]
        metrics = reported[name]
        expected = metrics.get("accuracy", metrics.get("mean"))["value"]
        assert sum(values) / len(values) == pytest.approx(expected)


def test_the_older_form_holds_the_same():
    (task,) = reading.read(LOGS / "sums-first.json").tasks.values()
    log = json.loads((LOGS / "sums-first.json").read_text())
    reported = {score["name"]: score["metrics"] for score in log["results"]["scores"]}
    values = [item.scores["match"] for item in task.items.values()]
    assert (len(values), sum(values) / len(values)) == (12, pytest.approx(reported["match"]["accuracy"]["value"]))


def test_our_means_are_those_that_the_harness_reports():
    log = reading.read(FIRST)
    results = json.loads(next(FIRST.glob("results_*.json")).read_text())["results"]
    assert set(log.tasks) == {"sums_choice", "sums_choice_words"}
    for name, task in log.tasks.items():
        for measure in next(iter(task.items.values())).scores:
            values = [item.scores[measure] for item in task.items.values()]
            assert sum(values) / len(values) == pytest.approx(results[name][f"{measure},none"])


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
    assert "24 of 24 shared items (0, 1, 2, …) asked in other words, compared all the same" in text
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


def test_scores_that_are_no_numbers(lines):
    values = ["C", "I", "P", "N", "yes", "0.25", True, 2]
    assert [scores.number(value) for value in values] == [1, 0, 0.5, 0, 1, 0.25, 1, 2]
    assert [scores.number(value) for value in ("good", None, [1], float("nan"), "inf", 10**400)] == [None] * 6
    one = lines("a.jsonl", [{"id": n, "scores": {"x": 1, "grade": "good"}} for n in range(9)])
    two = lines("b.jsonl", [{"id": n, "scores": {"x": "bad" if n < 4 else 0, "grade": "bad"}} for n in range(9)])
    report = comparison.compare([one, two])
    assert [(row.measure, row.items) for row in report.comparisons] == [("x", 5)]
    text = rendering.text(report)
    assert "b: x: 4 scores not a finite number, left out: 0: 'bad', 1: 'bad', 2: 'bad', …" in text
    assert "a: grade: all 9 scores not a finite number" in text
    with pytest.raises(ValueError, match=r"no item has a score: 3 answers read.*no numbers: 0: 'good'"):
        reading.read(lines("c.jsonl", [{"id": n, "score": "good"} for n in range(3)]))


def test_lines_of_scores_in_their_forms(lines):
    rows = [{"id": "a", "exact": True, "length": 3, "group": "g"}, {"item": "b", "scores": {"exact": 0, "length": 1}}]
    (task,) = reading.read(lines("a.jsonl", rows)).tasks.values()
    assert {name: dict(item.scores) for name, item in task.items.items()} == {
        "a": {"exact": 1, "length": 3},
        "b": {"exact": 0, "length": 1},
    }
    several = [{"id": 1, "task": name, "epoch": epoch, "score": epoch} for name in "xy" for epoch in (0, 1)]
    log = reading.read(lines("b.jsonl", several))
    assert {name: task.items["1"].scores for name, task in log.tasks.items()} == {
        "x": {"score": 0.5},
        "y": {"score": 0.5},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "is no log that can be read"),
        ("[1, 2]\n", "is no log that can be read"),
        ('{"question": "no id", "score": 1}\n', "is no log that can be read"),
        ('{"id": 1, "score": 1}\n{"score": 1}\n', r"object 2: no id\. Items of two logs are paired by"),
        ('{"id": 1, "score": 1}\n{"id": 2, "sc\n{"id": 3, "score": 1}\n', "line 2: no JSON"),
        ('{"id": 1, "score": 1}\n[2]\n', "line 2: a JSON object is wanted, not list"),
        (
            '{"id": 1, "score": 1, "target": "x"}\n{"id": 1, "score": 1, "target": "y"}\n',
            "two different items have the id '1'",
        ),
    ],
)
def test_a_file_that_is_no_log(tmp_path, text, message):
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        reading.read(tmp_path / "log.jsonl")


def test_folders_and_tables_of_results(tmp_path):
    with pytest.raises(ValueError, match="holds no log"):
        reading.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        reading.read(tmp_path / "absent")
    with pytest.raises(ValueError, match="is a table of results, without scores of items"):
        reading.read(next(FIRST.glob("results_*.json")))
    for number in (1, 2):
        shutil.copy(SMALL, tmp_path / f"{number}.eval")
    with pytest.raises(ValueError, match=r"holds two logs of task sums: .*1\.eval and .*2\.eval"):
        reading.read(tmp_path)


def test_logs_that_were_cut_off(tmp_path):
    whole = SMALL.read_bytes()
    (tmp_path / "cut.eval").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is a zip that was cut off"):
        reading.read(tmp_path / "cut.eval")
    (tmp_path / "cut.json").write_bytes((LOGS / "sums-first.json").read_bytes()[:5000])
    with pytest.raises(ValueError, match="is cut off, or no JSON"):
        reading.read(tmp_path / "cut.json")
    samples = shutil.copytree(FIRST, tmp_path / "choice")
    for file in samples.glob("samples_*"):
        file.write_bytes(file.read_bytes()[:-100])
    text = rendering.text(comparison.compare([samples, SECOND]))
    assert "sums_choice: choice: the file was cut off: its last line, 24, is no JSON, and left out" in text
    assert "23 items have a score, of 24 that were evaluated" in text


def rewritten(path, target, *, drop=(), compression=zipfile.ZIP_DEFLATED):
    """A log with other members and another codec, as another version of inspect-ai writes it."""
    with archive.Archive(path) as log, zipfile.ZipFile(target, "w", compression) as out:
        for name in log.names:
            if not name.startswith(drop):
                out.writestr(name, json.dumps(log.read_json(name)))
    return target


def test_older_logs_are_deflated_and_a_running_one_has_a_journal(tmp_path):
    expected = reading.read(SMALL).tasks["sums"]
    for number, drop in enumerate([("none",), ("summaries.json",), ("summaries.json", "_journal/summaries")]):
        log = rewritten(SMALL, tmp_path / f"{number}.eval", drop=drop)
        assert reading.read(log).tasks["sums"] == expected
    running = rewritten(SMALL, tmp_path / "running.eval", drop=("summaries.json", "header.json"))
    (task,) = reading.read(running).tasks.values()
    assert task.items == expected.items
    assert task.remarks[0] == "the evaluation did not end (status started): 24 answers of 24"


def test_a_zip_that_is_no_log(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.eval", "w") as out:
        out.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"is a zip, and no log of inspect-ai: it holds neither header\.json"):
        reading.read(tmp_path / "other.eval")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("header.json", b" " * 2_000_000)
        out.writestr("small.json", "[1]" + " " * 600_000)
    with archive.Archive(tmp_path / "bomb.zip", limit=1_000_000) as log:
        with pytest.raises(ValueError, match="GiB and more; at most"):
            log.read_json("header.json")
        assert log.read_json("small.json") == [1]
        with pytest.raises(ValueError, match="GiB and more; at most"):
            log.read_json("small.json")  # both together are too much
    data = (tmp_path / "bomb.zip").read_bytes()
    lying = data.replace(struct.pack("<L", 2_000_000), struct.pack("<L", 20))
    assert lying != data
    (tmp_path / "lying.zip").write_bytes(lying)
    with archive.Archive(tmp_path / "lying.zip") as log, pytest.raises(ValueError, match=r"damaged|cannot be unpacked"):
        log.read_json("header.json")


def test_a_damaged_member_is_named(tmp_path):
    with zipfile.ZipFile(SMALL) as log:
        info = log.getinfo("header.json")
    data = bytearray(SMALL.read_bytes())
    middle = info.header_offset + 60 + info.compress_size // 2
    data[middle : middle + 8] = b"\xff" * 8
    (tmp_path / "damaged.eval").write_bytes(data)
    with pytest.raises(ValueError, match=r"header\.json (cannot be unpacked|is damaged)"):
        reading.read(tmp_path / "damaged.eval")


def test_several_frames_of_zstandard_are_one_member(tmp_path):
    """inspect-ai begins a new frame every 200 MiB."""
    parts = [b'{"a": ', b"[1, 2]}"]
    packed = b"".join(bytes(pa.compress(part, "zstd", asbytes=True)) for part in parts)
    crc = zlib.crc32(b"".join(parts))
    name, size = b"x.json", sum(map(len, parts))
    local = (
        struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 93, 0, 33, crc, len(packed), size, len(name), 0) + name + packed
    )
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 93, 0, 33, crc, len(packed), size, len(name), 0, 0, 0, 0, 0, 0
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central + name), len(local), 0)
    (tmp_path / "frames.zip").write_bytes(local + central + name + end)
    with archive.Archive(tmp_path / "frames.zip") as log:
        assert log.read_json("x.json") == {"a": [1, 2]}


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
    assert "+0.375 [+0.125, +0.625]" in genuine


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


def test_an_error_is_one_message(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        commands.main(["compare-logs", str(SMALL), str(tmp_path / "absent.eval")])
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_how_to_page_shows_what_the_command_prints():
    text = (ROOT / "docs/pages/how-to/compare-logs.md").read_text()
    assert rendering.text(comparison.compare([SMALL, LARGE])) in text
    assert rendering.text(comparison.compare([SMALL, LOGS / "sums-failed.eval"], measures=["match"])) in text
