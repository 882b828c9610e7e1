"""The splits that the stage writes: groups stay whole, few rows are split as far as they go, and it is said."""

import json
import sqlite3

import datasets
import pytest

from tasks.core.records import Example
from tasks.io import tables
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.sources import label, tell_apart
from tests.stages.ingest.running import PLURALS, examples_of, ingest


def test_a_gate_set_takes_from_what_trains_and_leaves_the_other_splits(tmp_path, rows):
    sources = [{"from": "file", "path": rows}]
    ingest(tmp_path, sources, "without")
    _, report = ingest(tmp_path, sources, "with", splits={"valid": 0.2, "test": 0.2, "gate": 0.15})
    without, with_gate = examples_of(tmp_path, "without"), examples_of(tmp_path, "with")
    gate = tables.read(tmp_path / "with/ingested/gate.parquet", Example)
    assert tables.read(tmp_path / "without/ingested/gate.parquet", Example) == []
    assert (with_gate["valid"], with_gate["test"]) == (without["valid"], without["test"])
    assert {row.group for row in gate} == {row.group for row in without["train"]} - {
        row.group for row in with_gate["train"]
    }
    assert report["splits"]["gate"] == {"examples": len(gate), "groups": len(gate)}
    assert gate


def test_equal_values_of_the_group_column_stay_together(tmp_path):
    file = tmp_path / "rows.csv"
    lines = [f"{word} {number},{many},{word}" for word, many in PLURALS.items() for number in range(4)]
    file.write_text("\n".join(["question,answer,topic", *lines]))
    run, _ = ingest(tmp_path, [{"from": "file", "path": file, "group": "topic"}])
    kept = examples_of(tmp_path)
    groups = {split: {example.group for example in examples} for split, examples in kept.items()}
    sizes = {split: len(names) for split, names in groups.items()}
    assert sizes == {"train": 4, "valid": 1, "test": 1, "benchmark": 0}
    assert not groups["train"] & groups["test"]
    assert any("rows.csv lies outside" in line for line in run.said)


def test_questions_on_one_text_are_no_duplicates_where_the_text_names_their_group(tmp_path):
    texts = [" ".join(f"{word}{number}" for number in range(60)) for word in PLURALS]
    asks = ["Who came first?", "Where did they go after all?", "When was that?"]
    rows = [{"question": ask, "context": text, "answer": f"{ask} {n}"} for n, text in enumerate(texts) for ask in asks]
    _, report = ingest(tmp_path, [source(tmp_path, "rows.jsonl", [*rows, rows[0]], group="context")])
    assert report["dropped"] == {"duplicate": 1}
    texts_of = {
        split: {row.messages[0].content.split("\n\n")[1] for row in kept}
        for split, kept in examples_of(tmp_path).items()
    }
    assert texts_of["test"]
    assert not texts_of["test"] & texts_of["train"]


def test_few_rows_are_split_and_it_is_said(tmp_path):
    file = tmp_path / "raw" / "few.jsonl"
    file.parent.mkdir()
    rows = [{"prompt": f"{word}?", "completion": many} for word, many in list(PLURALS.items())[:4]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, report = ingest(
        tmp_path, [{"from": "file", "path": str(file)}], splits={"valid": 0.1, "test": 0.15, "gate": 0.1}
    )
    assert {name: row["examples"] for name, row in report["splits"].items()} == dict.fromkeys(report["splits"], 1)
    assert len(report["splits"]) == 4
    assert any("valid holds one group: 1 of 4 examples, 25% where 10% were asked for" in line for line in run.said)


def test_too_few_groups_for_a_test_split_end_in_one_message(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        "\n".join(json.dumps({"prompt": f"p{n}", "completion": f"c{n}", "thread": "one"}) for n in range(20))
    )
    with pytest.raises(ValueError, match=r"valid and test would be empty: 20 examples in 1 groups"):
        ingest(tmp_path, [{"from": "file", "path": file, "group": "thread"}])


@pytest.mark.parametrize("by", ["size", "name"])
@pytest.mark.parametrize("number", range(1, 13))
def test_few_rows_are_split_as_far_as_they_go_and_the_report_says_so(tmp_path, number, by):
    rows = [{"prompt": f"What is {word}?", "completion": f"{word} it is."} for word in "abcdefghijkl"[:number]]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {"by": by, "valid": 0.1, "test": 0.15, "gate": 0.1}
    if number < 3:
        with pytest.raises(ValueError, match=rf"would be empty: {number} examples .* 3 groups are the least"):
            ingest(tmp_path, [{"from": "file", "path": file}], splits=splits)
        return
    run, report = ingest(tmp_path, [{"from": "file", "path": file}], splits=splits)
    sizes = {split: row["examples"] for split, row in report["splits"].items()}
    assert sum(sizes.values()) == number
    assert set(sizes) == {"train", "valid", "test", *(["gate"] if number > 3 else [])}
    small = {split for split in ("valid", "test", "gate") if sizes.get(split, 0) < 2}
    assert {line.split(" holds ")[0] for line in report["caveats"]} == small
    assert set(report["caveats"]) <= set(run.said)


def test_a_split_that_its_near_duplicates_emptied_gets_a_group_that_trains(tmp_path):
    words = [f"w{n}" for n in range(400)]
    texts = [" ".join(words[40 * n : 40 * n + 40]) for n in range(8)]
    rows = [{"prompt": f"Tell {n}?", "completion": text} for n, text in enumerate(texts)]
    rows += [{"prompt": f"Say {n}!", "completion": f"{text} more"} for n, text in enumerate(texts[:6])]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {"by": "name", "valid": 0.05, "test": 0.05, "gate": 0.05}
    for seed in (1, 5):  # whose only group of valid is a copy of one that goes before it
        _, report = ingest(tmp_path, [{"from": "file", "path": file}], str(seed), splits=splits, seed=seed)
        sizes = {split: row["examples"] for split, row in report["splits"].items()}
        assert set(sizes) == {"train", "valid", "test", "gate"}
        assert sum(sizes.values()) == 8


def chats(path, numbers, about="bird"):
    rows = [
        {"prompt": f"Which {about} is number {n}?", "completion": f"{about} {n * n + 7}", "thread": f"t{n // 4}"}
        for n in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("group", [None, "thread"])
def test_by_name_no_id_and_no_group_changes_its_split_as_rows_are_added(tmp_path, group):
    folder, splits = tmp_path / "raw/chats", {"by": "name", "valid": 0.1, "test": 0.15, "gate": 0.1}
    folder.mkdir(parents=True)
    source = {"from": "file", "path": str(folder), **({"group": group} if group else {})}
    known, sizes = {}, []
    for name, about, numbers in (("m", "bird", 600), ("a", "fish", 40), ("z", "tree", 1400), ("a", "fish", 160)):
        chats(folder / f"{name}.jsonl", range(numbers), about)
        _, report = ingest(tmp_path, [source], splits=splits, near_duplicates={"jaccard": None, "cosine": None})
        gate = tables.read(tmp_path / "out/ingested/gate.parquet", Example)
        rows = [*gate, *(row for rows in examples_of(tmp_path).values() for row in rows)]
        now = {row.id: row.split for row in rows} | ({row.group: row.split for row in rows} if group else {})
        assert {key: now[key] for key in known} == known
        known = now
        sizes.append(len(rows))
        for split, share in report["shares"].items():
            assert share["examples"] == round(sum(row.split == split for row in rows) / len(rows), 4)
            groups = {row.group: row.split for row in rows}
            assert share["groups"] == round(list(groups.values()).count(split) / len(groups), 4)
            assert abs(share["groups"] - share["asked"]) < 4 * share["deviation"]
    assert sizes == [600, 640, 2040, 2160]
    assert set(known.values()) == {"train", "valid", "test", "gate"}


def test_shares_stand_beside_those_that_were_asked_for(tmp_path, rows):
    run, report = ingest(tmp_path, [{"from": "file", "path": rows}], splits={"valid": 0.2, "test": 0.1})
    assert report["shares"] == {
        "valid": {"asked": 0.2, "examples": 0.2, "groups": 0.2, "deviation": 0.073},
        "test": {"asked": 0.1, "examples": 0.1, "groups": 0.1, "deviation": 0.0548},
    }
    assert "shares: 20.0% valid (20.0% asked for), 10.0% test (10.0% asked for)\n" in run.said[-1]


def test_a_use_case_with_one_example_is_named_and_a_row_without_one_is_refused(tmp_path):
    file = tmp_path / "rows.jsonl"
    words = list(PLURALS)
    rows = [{"question": f"{word} of the network", "answer": PLURALS[word], "use_case": "routing"} for word in words]
    rows[0]["use_case"], rows[1]["use_case"] = "satellite", " "
    file.write_text("\n".join(json.dumps(row) for row in rows))
    run, report = ingest(tmp_path, [{"from": "file", "path": file, "task_by": "use_case"}])
    assert {example.task for part in examples_of(tmp_path).values() for example in part} == {"routing", "satellite"}
    assert report["dropped"] == {"no task": 1}
    assert report["tasks"]["satellite"]["examples"] == 1
    (named,) = [line for line in report["caveats"] if line.startswith("Task ")]
    assert "Task satellite has one example, none of which " in named
    assert named in run.said


# --- splits that the data give ------------------------------------------------------------------------------------------------


def asked(first, number, **columns):
    return [
        {"question": f"What is part {n * n} of the {n} things?", "answer": f"It is thing {n * 7} of all {n}."} | columns
        for n in range(first, first + number)
    ]


def source(tmp_path, name, rows, **options):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"from": "file", "path": path, **options}


@pytest.mark.parametrize("by", ["size", "name"])
def test_what_a_source_holds_out_stays_so_and_nothing_else_is_drawn_for_it(tmp_path, by):
    sources = [
        source(tmp_path, "train.jsonl", asked(0, 60)),
        source(tmp_path, "test.jsonl", asked(500, 10), held_out="test"),
    ]
    _, report = ingest(tmp_path, sources, splits={"valid": 0.2, "test": 0.3, "gate": 0.2, "by": by})
    files = {
        split: {row.source.split(":")[0].split("/")[-1] for row in rows}
        for split, rows in examples_of(tmp_path).items()
    }
    assert files["test"] == {"file test.jsonl"}
    assert files["train"] == files["valid"] == {"file train.jsonl"}
    assert report["splits"]["test"]["examples"] == 10
    assert report["splits"]["gate"]["examples"] > 5


def files_of_one_name(folder, rows):
    """Yield the two parts of the rows as sources that share a label."""
    for split in rows:
        (folder / split).mkdir()
        yield source(folder / split, "data.jsonl", rows[split])


def files_of_one_pattern(folder, rows):
    for file in files_of_one_name(folder, rows):
        yield file | {"path": f"{folder}/{file['path'].parent.name}/*.jsonl"}


def folders_of_one_name(folder, rows):
    for split in rows:
        (folder / split / "data").mkdir(parents=True)
        source(folder / split / "data", "1.jsonl", rows[split])
        yield {"from": "file", "path": folder / split / "data"}


def queries_to_one_database(folder, rows):
    with sqlite3.connect(folder / "rows.sqlite") as connection:
        for split, answers in rows.items():
            connection.execute(f"CREATE TABLE {split} (question TEXT, answer TEXT)")
            connection.executemany(f"INSERT INTO {split} VALUES (:question, :answer)", answers)
    connection.close()
    for split in rows:
        query = f"SELECT * FROM {split} ORDER BY rowid"
        yield {"from": "query", "database": str(folder / "rows.sqlite"), "query": query}


def splits_of_one_data_set(folder, rows):
    saved = datasets.DatasetDict({split: datasets.Dataset.from_list(answers) for split, answers in rows.items()})
    saved.save_to_disk(str(folder / "saved"))
    for split in rows:
        yield {"from": "datasets", "path": str(folder / "saved"), "split": split}


@pytest.mark.parametrize(
    "made",
    [files_of_one_name, files_of_one_pattern, folders_of_one_name, queries_to_one_database, splits_of_one_data_set],
)
def test_rows_of_equal_places_in_sources_of_one_label_share_no_group(tmp_path, made):
    rows = {"train": asked(0, 30), "test": asked(500, 10)}
    train, test = made(tmp_path, rows)
    _, report = ingest(
        tmp_path, [train, test | {"held_out": "test"}], near_duplicates={"jaccard": None, "cosine": None}
    )
    assert {row.response for row in examples_of(tmp_path)["test"]} == {row["answer"] for row in rows["test"]}
    assert [counts["kept"] for counts in report["sources"].values()] == [30, 10]


def test_a_source_that_is_added_behind_others_changes_no_label():
    first, second, third = (
        File.model_validate({"from": "file", "path": path}) for path in ("/a/data.jsonl", "/b/data.jsonl", "c.jsonl")
    )
    tell_apart([first, third])
    before = [label(first), label(third)]
    tell_apart([first, third, second, same := first.model_copy(update={"group": "topic"})])
    assert [label(first), label(third)] == before == ["file data.jsonl", "file c.jsonl"]
    assert label(second) == "file data.jsonl (cc5f4499)"
    assert label(same) == label(first)


def test_a_column_names_the_split_of_each_row(tmp_path):
    spelled = {"train": "train", "dev": "valid", " TEST": "test", "gate": "gate"}
    rows = [row | {"part": list(spelled)[n % 4]} for n, row in enumerate(asked(0, 40))]
    rows += [row | {"part": part} for part, row in zip(("holdout", None), asked(70, 2), strict=True)]
    run, report = ingest(
        tmp_path,
        [source(tmp_path, "rows.jsonl", rows, split_by="part")],
        splits={"valid": 0.1, "test": 0.1, "gate": 0.1},
    )
    assert {split: counts["examples"] for split, counts in report["splits"].items()} == dict.fromkeys(
        spelled.values(), 10
    )
    (counts,) = report["sources"].values()
    assert counts["refused"] == {"unknown split": 2}
    assert any("2 unknown split" in line for line in run.said)


def test_of_a_group_that_is_held_out_for_several_splits_it_is_the_test_set(tmp_path):
    rows = [row | {"part": ("test", "valid", "train")[n % 3], "topic": n // 3} for n, row in enumerate(asked(0, 9))]
    rows += [row | {"part": "train", "topic": f"other {n}"} for n, row in enumerate(asked(30, 20))]
    ingest(tmp_path, [source(tmp_path, "rows.jsonl", rows, split_by="part", group="topic")])
    assert {row.group.split(": ")[-1] for row in examples_of(tmp_path)["test"]} == {"0", "1", "2"}


def test_of_equal_rows_the_one_that_the_data_hold_out_is_kept(tmp_path):
    held_out = asked(500, 10)
    sources = [
        source(tmp_path, "train.jsonl", [*asked(0, 30), *held_out[:4]]),
        source(tmp_path, "test.jsonl", held_out, held_out="test"),
    ]
    ingest(tmp_path, sources, "first", near_duplicates={"jaccard": None, "cosine": None})
    kept = examples_of(tmp_path, "first")
    assert {row.response for row in kept["test"]} == {row["answer"] for row in held_out}
    assert not {row.response for row in kept["test"]} & {row.response for row in kept["train"]}


def test_a_split_is_given_once():
    with pytest.raises(ValueError, match="`held_out` is the split of all rows, and `split_by` names a column"):
        File.model_validate({"from": "file", "path": "a.csv", "held_out": "test", "split_by": "split"})
