"""The stage on a handful of files: kept and refused records, messages, written tables."""

import json
import re
import sqlite3
from pathlib import Path

import pytest

from tasks.core.records import Refusal
from tasks.io import tables
from tests.stages.ingest.planting import passage
from tests.stages.ingest.running import PLURALS, examples_of, ingest


def test_every_line_is_kept_merged_or_refused_by_its_number(tmp_path, rows):
    run, report = ingest(tmp_path, [{"from": "file", "path": rows, "license": "CC0-1.0"}])
    (line,) = report["sources"].values()
    assert line == {
        "read": 39,
        "kept": 30,
        "merged": 1,
        "refused": {
            "empty content": 1,
            "equal sides": 1,
            "no answer": 1,
            "not JSON": 1,
            "not UTF-8": 1,
            "not an object": 1,
            "too long": 1,
            "unknown shape": 1,
        },
    }
    quarantine = tables.read(tmp_path / "out" / "ingested" / "quarantine.parquet", Refusal)
    assert {refusal.reason: refusal.where.split(": ")[-1] for refusal in quarantine} == {
        "not JSON": "line 32",
        "not an object": "line 33",
        "unknown shape": "line 34",
        "empty content": "line 35",
        "not UTF-8": "line 36",
        "too long": "line 38",
        "equal sides": "line 39",
        "no answer": "line 40",
        "duplicate": "line 31",
    }
    kept = examples_of(tmp_path)
    sizes = {split: len(examples) for split, examples in kept.items()}
    assert sizes == {"train": 18, "valid": 6, "test": 6, "benchmark": 0}
    assert all(example.split == split for split, examples in kept.items() for example in examples)
    assert report["splits"]["train"] == {"examples": 18, "groups": 18}
    assert report["licenses"] == {"CC0-1.0": 30}
    assert "18 train, 6 valid, 6 test" in run.said[-1]
    (dropped,) = re.findall("dropped of examples and texts: (.*) [(]all", run.said[-1])
    assert sum(int(reason.split()[0]) for reason in dropped.split(", ")) == 9, dropped
    assert dropped.endswith(", 4 for 4 other reasons")


def test_equal_settings_give_equal_bytes_and_another_seed_others(tmp_path, rows):
    corpora = {"general": [{"from": "topics"}], "max_chars": 20_000}
    source = [{"from": "file", "path": rows}]
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        ingest(tmp_path, source, name, seed=seed, corpora=corpora)
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(files) == 13
    one, two, three = (
        {file: (tmp_path / name / file).read_bytes() for file in files} for name in ("one", "two", "three")
    )
    assert one == two
    assert one[Path("examples.parquet")] != three[Path("examples.parquet")]


def test_each_file_of_a_folder_is_balanced_by_itself(tmp_path):
    """Read = kept + merged + refused holds for each file, whatever its format, and a query is a source as any."""
    folder, words = tmp_path / "raw/mixed", list(PLURALS.items())
    files = {
        "a.jsonl": "".join(json.dumps({"prompt": f"What is {a} now?", "completion": f"{b}!"}) + "\n" for a, b in words) + "{\n",
        "b.csv": "Wort;Mehrzahl\n" + "".join(f"Und {a} hier?;{b}\n" for a, b in [*words, words[0]]) + "zu;viel;hier\n",
        "c.bin": "\x00\x01\x02",
    }  # fmt: skip
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    with sqlite3.connect(folder.parent / "d.sqlite") as connection:
        connection.execute("CREATE TABLE t (question TEXT, answer TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(f"Say {a}?", b) for a, b in words] + [("Empty?", None)])
    connection.close()
    database = str(folder.parent / "d.sqlite")
    sources = [
        {"from": "file", "path": str(folder), "columns": {"prompt": "{{ Wort }}", "response": "Mehrzahl"}},
        {"from": "query", "database": database, "query": "SELECT * FROM t ORDER BY rowid"},
    ]
    _, report = ingest(tmp_path, sources)
    number = len(words)
    assert list(report["sources"].values()) == [
        {"read": number + 1, "kept": number, "merged": 0, "refused": {"not JSON": 1}},
        {"read": number + 2, "kept": number, "merged": 1, "refused": {"csv: too many columns": 1}},
        {"read": 1, "kept": 0, "merged": 0, "refused": {"unreadable file": 1}},
        {"read": number + 1, "kept": number, "merged": 0, "refused": {"content is no text": 1}},
    ]
    assert list(report["sources"])[:3] == [f"file mixed/{name}" for name in files]
    refusals = tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)
    assert {(row.source, row.where) for row in refusals if row.source == "file mixed/b.csv"} == {
        ("file mixed/b.csv", "line 9"), ("file mixed/b.csv", "file mixed/b.csv: line 8"),
    }  # fmt: skip


def test_nothing_kept_ends_in_one_message_with_the_first_reason(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n' * 3)
    with pytest.raises(ValueError, match=r"kept no example.*3 unknown shape.*line 1"):
        ingest(tmp_path, [{"from": "file", "path": file}])


def test_a_limit_of_rows_takes_that_many_drawn_by_the_seed(tmp_path, rows):
    source = {"from": "file", "path": rows, "max_rows": 20}
    _, report = ingest(tmp_path, [source])
    assert report["sources"][f"file {rows.name}"]["read"] == 20
    ingest(tmp_path, [source], "other", seed=1)
    ids = [{row.id for rows in examples_of(tmp_path, name).values() for row in rows} for name in ("out", "other")]
    assert ids[0] != ids[1]


def test_a_pattern_takes_files_that_come_later_and_moves_nothing_that_was_there(tmp_path):
    source = {"from": "file", "path": str(tmp_path / "raw/chats/*.jsonl")}
    (tmp_path / "raw/chats").mkdir(parents=True)

    def send(name, words):
        rows = [{"prompt": f"What is {word}?", "completion": f"{word} is {plural}."} for word, plural in words]
        (tmp_path / "raw/chats" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(FileNotFoundError, match="no file matches"):
        ingest(tmp_path, [source])
    send("b.jsonl", PLURALS.items())
    ingest(tmp_path, [source], "first")
    send("a.jsonl", [(f"{word}s", f"{word}ses") for word in PLURALS])
    ingest(tmp_path, [source], "second")
    first, second = (
        {row.id: row for rows in examples_of(tmp_path, name).values() for row in rows} for name in ("first", "second")
    )
    assert len(first) == 6
    assert len(second) == 12
    assert {row.domain for row in second.values()} == {"chats"}
    assert all(second[name].group == row.group for name, row in first.items())
    assert {row.source.split(": ")[0] for row in second.values()} == {"file chats/a.jsonl", "file chats/b.jsonl"}


def test_every_step_that_takes_long_knows_its_total_from_the_start(tmp_path, rows):
    """With the total, progress shows the time that is left."""
    (tmp_path / "raw/more.jsonl").write_bytes(rows.read_bytes())
    pages = tmp_path / "pages"
    pages.mkdir()
    for number in range(6):
        (pages / f"{number}.html").write_text(f"<p>{passage('page', number)}</p>")
    sources, corpora = [{"from": "file", "path": rows.parent}], {"domain": [{"from": "folder", "path": pages}]}
    run, _ = ingest(tmp_path, sources, corpora=corpora)
    units = [unit for unit, _ in run.tracked]
    assert run.tracked[0] == ("part", 2)
    assert ("document", 6) in run.tracked
    assert units.count("block") >= 5  # of both sides, the bands, the candidates, and contamination
    assert [unit for unit, total in run.tracked if total is None] == []
    again, _ = ingest(tmp_path, sources, corpora=corpora)
    assert {"part", "document"}.isdisjoint(unit for unit, _ in again.tracked)  # what is kept is not read again
