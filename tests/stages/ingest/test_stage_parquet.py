"""Parquet files of several schemas in one folder: each is read by its own columns, or refused by name, and no id of a file collides."""

from collections import Counter

import polars as pl
import pytest

from tasks.core.records import Refusal
from tasks.io import tables
from tests.stages.ingest.running import PLURALS, examples_of, ingest

PAIRS = [(f"What is more than one {word}?", f"{many}.") for word, many in PLURALS.items()]


def test_each_schema_is_read_by_its_own_columns_or_refused_by_name(tmp_path):
    folder = tmp_path / "raw/mixed"
    folder.mkdir(parents=True)
    prompts, completions = map(list, zip(*PAIRS, strict=True))
    turns = [
        [{"role": "user", "content": f"Say {word} aloud!"}, {"role": "assistant", "content": f"{word}!"}]
        for word in PLURALS
    ]
    frames = {
        "a.parquet": {"prompt": prompts, "completion": completions},
        "b.parquet": {"messages": turns, "score": [0.5] * 6},
        "c.parquet": {"prompt": list(range(6)), "completion": [b"\x00"] * 6},
        "d.parquet": {"sku": prompts, "price": [1.5] * 6},
        "e.parquet": {"completion": completions[:2], "prompt": prompts[:2]},
    }
    for name, columns in frames.items():
        pl.DataFrame(columns).write_parquet(folder / name)
    _, report = ingest(tmp_path, [{"from": "file", "path": str(folder)}])
    assert report["sources"] == {
        "file mixed/a.parquet": {"read": 6, "kept": 6, "merged": 0, "refused": {}},
        "file mixed/b.parquet": {"read": 6, "kept": 6, "merged": 0, "refused": {}},
        "file mixed/c.parquet": {"read": 6, "kept": 0, "merged": 0, "refused": {"content is no text": 6}},
        "file mixed/d.parquet": {"read": 6, "kept": 0, "merged": 0, "refused": {"unknown shape": 6}},
        "file mixed/e.parquet": {"read": 2, "kept": 0, "merged": 2, "refused": {}},
    }
    refused = tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)
    assert {row.where for row in refused if row.source.endswith("d.parquet")} == {f"row {n}" for n in range(1, 7)}
    assert all("sku" in row.detail for row in refused if row.source.endswith("d.parquet"))


def test_rows_of_two_files_with_one_id_are_both_kept_and_only_what_is_equal_is_merged(tmp_path):
    folder = tmp_path / "raw/ids"
    folder.mkdir(parents=True)
    for name, ids in (("a", list(range(6))), ("b", [f"{n}" for n in range(6)])):  # the ids of another type too
        rows = {"id": ids, "prompt": [f"{name}: {prompt}" for prompt, _ in PAIRS], "completion": [b for _, b in PAIRS]}
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")
    same = pl.read_parquet(folder / "a.parquet").with_columns(pl.col("id") + 100)
    same.write_parquet(folder / "c.parquet")
    _, report = ingest(
        tmp_path, [{"from": "file", "path": str(folder)}], near_duplicates={"jaccard": None, "cosine": None}
    )
    assert [(row["read"], row["kept"], row["merged"]) for row in report["sources"].values()] == [
        (6, 6, 0), (6, 6, 0), (6, 0, 6),
    ]  # fmt: skip
    kept = [row for rows in examples_of(tmp_path).values() for row in rows]
    assert max(Counter(row.id for row in kept).values()) == 1
    assert Counter(row.source.split(": ")[0] for row in kept) == {"file ids/a.parquet": 6, "file ids/b.parquet": 6}


@pytest.mark.parametrize("write", [pl.DataFrame.write_parquet, pl.DataFrame.write_csv, pl.DataFrame.write_ndjson])
def test_a_table_of_4000_columns_is_read_by_those_it_needs_and_a_refusal_of_it_is_short(tmp_path, write):
    folder = tmp_path / "raw/wide"
    folder.mkdir(parents=True)
    others = {f"column_{number}": ["x"] * 6 for number in range(4_000)}
    prompts, completions = map(list, zip(*PAIRS, strict=True))
    ending = write.__name__.removeprefix("write_").replace("ndjson", "jsonl")
    write(pl.DataFrame(others), folder / f"a.{ending}")
    write(pl.DataFrame(others | {"prompt": prompts, "completion": completions}), folder / f"b.{ending}")
    _, report = ingest(tmp_path, [{"from": "file", "path": str(folder)}])
    assert [(row["read"], row["kept"], row["refused"]) for row in report["sources"].values()] == [
        (6, 0, {"unknown shape": 6}), (6, 6, {}),
    ]  # fmt: skip
    refused = tables.read(tmp_path / "out/ingested/quarantine.parquet", Refusal)
    assert max(len(row.detail) + len(row.record) for row in refused) < 2_000
