"""Logs that inspect-ai and lm-evaluation-harness wrote themselves (`data/logs/make.py`) are read as they are, and others are named."""

import json
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from flows.experiments.logs import archive, comparison, reading, rendering, scores

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).parent / "data/logs"
SMALL, LARGE = LOGS / "sums-small.eval", LOGS / "sums-large.eval"
FIRST, SECOND = LOGS / "choice-first", LOGS / "choice-second"


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
    with pytest.raises(ValueError, match=r"no item has a score: 3 answers read.*not numbers: 0: 'good'"):
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
        ("hello\n", "is not a readable log"),
        ("[1, 2]\n", "is not a readable log"),
        ('{"question": "no id", "score": 1}\n', "is not a readable log"),
        ('{"id": 1, "score": 1}\n{"score": 1}\n', r"object 2: no id\. Items of two logs are paired by"),
        ('{"id": 1, "score": 1}\n{"id": 2, "sc\n{"id": 3, "score": 1}\n', "line 2: no JSON"),
        ('{"id": 1, "score": 1}\n[2]\n', "line 2: expected a JSON object, not list"),
        (
            '{"id": 1, "score": 1, "target": "x"}\n{"id": 1, "score": 1, "target": "y"}\n',
            "two different items have the id '1'",
        ),
        (
            '{"id": 1, "score": 1}\n{"id": 1, "score": 1, "target": "x"}\n{"id": 1, "score": 1, "target": "y"}\n',
            "two different items have the id '1'",
        ),
        (
            '{"id": 1, "score": 1, "input": "", "question": "x"}\n{"id": 1, "score": 1, "input": "", "question": "y"}\n',
            "two different items have the id '1'",
        ),
        (
            '{"id": 1, "score": 1, "target": null, "reference": "x"}\n{"id": 1, "score": 1, "target": null, "reference": "y"}\n',
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
    with pytest.raises(ValueError, match="is a truncated zip"):
        reading.read(tmp_path / "cut.eval")
    (tmp_path / "cut.json").write_bytes((LOGS / "sums-first.json").read_bytes()[:5000])
    with pytest.raises(ValueError, match="is truncated, or not JSON"):
        reading.read(tmp_path / "cut.json")
    samples = shutil.copytree(FIRST, tmp_path / "choice")
    for file in samples.glob("samples_*"):
        file.write_bytes(file.read_bytes()[:-100])
    text = rendering.text(comparison.compare([samples, SECOND]))
    assert "sums_choice: choice: the file was cut off: its last line, 24, is not JSON, and is left out" in text
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
