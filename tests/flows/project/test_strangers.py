"""Files and folders as strangers have them: all are used, or refused rightly by name, by what `ratchet init` does."""

import gzip
import json
import sqlite3
from pathlib import Path

import fastexcel
import polars as pl
import pytest
from pydantic import TypeAdapter

from flows.project import data_import
from tasks.io.sources import databases
from tasks.stages.ingest.config import ExampleSource
from tasks.stages.ingest.preview.command import previewed
from tasks.stages.ingest.preview.examples import preview
from tests.io.sources import strangers
from tests.io.sources.strangers import LINES, PAIRS, delimited, workbook, zipped

OWN = [{"Frage": prompt, "Antwort": completion, "Nr": number} for number, (prompt, completion) in enumerate(PAIRS)]
LABELLED = [
    {"text": f"A film as dull as number {number}.", "label": ["bad", "good"][number % 2]} for number in range(12)
]
QUIZ = [{"question": f"{n}+1?", "choices": [str(n), str(n + 1)], "answer": 1} for n in range(12)]
ALPACA = [{"instruction": prompt, "input": "", "output": completion} for prompt, completion in PAIRS]
SHAREGPT = [{"conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": c}]} for p, c in PAIRS]
CHAT = [{"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]} for p, c in PAIRS]


CALL = {"id": "c1", "type": "function", "function": {"name": "plural", "arguments": '{"word": "leaf"}'}}
SCHEMA = {
    "type": "function",
    "function": {"name": "plural", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}},
}
TOOLS = [
    {"tools": [SCHEMA], "messages": [
        {"role": "user", "content": p}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "leaves"}, {"role": "assistant", "content": c},
    ]} for p, c in PAIRS
]  # fmt: skip


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def taken(path):
    """What `ratchet init PATH --yes` would take: its preview and its sources."""
    sources = data_import.detect(path)
    view = previewed(sources.as_json())
    if any(view["guesses"]):
        sources = sources.answered(view["guesses"])
        view = previewed(sources.as_json())
    return view, sources


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *strangers.FILES.items(),
        ("own names.csv", delimited(";", "latin-1", names=("Frage", "Antwort"))),
        ("own_names.jsonl.gz", gzip.compress(lines(OWN))),
        ("labels.csv", b"text,label\n" + b"".join(f"{r['text']},{r['label']}\n".encode() for r in LABELLED)),
        ("quiz.jsonl", lines(QUIZ)),
        ("alpaca.json", json.dumps(ALPACA).encode()),
        ("sharegpt.json", json.dumps(SHAREGPT).encode()),
        ("chat.jsonl", lines(CHAT)),
        ("preferences.jsonl", lines({"prompt": p, "chosen": c, "rejected": "no idea"} for p, c in PAIRS)),
        ("tools.jsonl", lines(TOOLS)),
        ("pairs.jsonl", lines({"prompt": p, "correct": c, "incorrect": "no"} for p, c in PAIRS)),
        ("chat_as_text.csv", b"id,messages\n" + "".join(
            f'{n},"{json.dumps(row["messages"], ensure_ascii=False)}"\n'.replace('"[', "\x00").replace(']"\n', "\x01")
            .replace('"', '""').replace("\x00", '"[').replace("\x01", ']"\n') for n, row in enumerate(CHAT)).encode()),
    ],
)  # fmt: skip
def test_a_file_of_twelve_rows_is_used_whole(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    view, _ = taken(tmp_path / name)
    assert (view["kept"], view["refused"]) == (12, {})


def test_a_workbook(tmp_path):
    assert fastexcel.__version__
    frame = pl.DataFrame(OWN)
    path = tmp_path / "own.xlsx"
    path.write_bytes(workbook([frame.columns, *frame.rows()]))
    view, sources = taken(path)
    assert (view["kept"], view["refused"]) == (12, {})
    assert sources.examples[0]["columns"] == {"prompt": "Frage", "response": "Antwort"}
    assert sources.files == ("own.xlsx: Excel",)


def test_a_folder_of_mixed_kinds_names_every_file(tmp_path):
    folder = tmp_path / "mixed"
    files = {
        "a.jsonl": LINES, "deep/b.csv": delimited(";", "utf-16"), "c.zip": zipped({"x.tsv": delimited("\t")}), "notes.md": b"# Notes",
        "photo.png": b"\x89PNG\r\n\x1a\n\x00", "torn.parquet": b"PAR1", "code.rs": b"fn main() {}", "empty.csv": b"",
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "outside.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    (tmp_path / "elsewhere.jsonl").write_bytes(LINES)
    view, sources = taken(folder)
    assert view["files"] == {
        "file mixed/a.jsonl": {"kept": 12}, "file mixed/c.zip": {"kept": 12}, "file mixed/deep/b.csv": {"kept": 12},
        "file mixed/empty.csv": {"refused": 1}, "file mixed/outside.jsonl": {"refused": 1}, "file mixed/photo.png": {"refused": 1},
        "file mixed/torn.parquet": {"refused": 1},
    }  # fmt: skip
    assert sources.corpus == ({"from": "folder", "path": folder.as_posix()},)
    described = "\n".join(sources.files)
    for said in (
        "a.jsonl: JSON lines", "deep/b.csv: CSV (semicolon), utf-16-le", "c.zip: CSV (tab), in an archive", "photo.png: left out",
        "torn.parquet: Parquet", "outside.jsonl: left out: a link", "1 texts: taken into the corpus", "1 files of other code: left out",
    ):  # fmt: skip
        assert said in described


def test_texts_in_a_table_go_to_the_corpus(tmp_path):
    (tmp_path / "texts.csv").write_text("id,text\n" + "".join(f'{n},"A long text, number {n}."\n' for n in range(9)))
    view, sources = taken(tmp_path / "texts.csv")
    assert (sources.examples, view["kept"]) == ((), 0)
    assert sources.corpus == ({"from": "file", "path": (tmp_path / "texts.csv").as_posix(), "text": "text"},)


def test_texts_beside_chats_do_not_make_texts_of_these(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/chats.jsonl").write_bytes(lines(CHAT))
    (tmp_path / "mine/notes.csv").write_text("id,body\n" + "".join(f"{n},A long note of day {n}.\n" for n in range(9)))
    view, sources = taken(tmp_path / "mine")
    assert sources.corpus == ()
    assert (view["kept"], view["refused"]) == (12, {"unknown shape": 9})


@pytest.mark.parametrize(
    ("number", "answer", "kept"), [(1, {"a": 1}, 12), (5, {"text": "So."}, 12), (30, {"text": "So."}, 30)]
)
def test_a_guess_for_odd_rows_costs_no_more_of_the_others_than_it_gains(tmp_path, number, answer, kept):
    odd = [{"question": f"What is {n}?", "answer": answer} for n in range(number)]
    usual = [{"question": prompt, "answer": completion} for prompt, completion in PAIRS]
    (tmp_path / "rows.jsonl").write_bytes(lines([*odd, *usual]))
    view, sources = taken(tmp_path / "rows.jsonl")
    assert (sources.corpus, view["kept"]) == ((), kept)


def test_a_database_of_one_table_is_used_and_of_two_is_asked_about(tmp_path):
    path = tmp_path / "own.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE fragen (Frage TEXT, Antwort TEXT)")
        connection.executemany("INSERT INTO fragen VALUES (?, ?)", PAIRS)
    view, sources = taken(path)
    assert view["kept"] == 12
    assert sources.examples[0]["columns"] == {"prompt": "Frage", "response": "Antwort"}
    moved = sources.moved(path, tmp_path / "raw/own.sqlite")
    assert moved.examples[0]["database"].endswith("raw/own.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE more (a TEXT)")
    connection.close()
    with pytest.raises(ValueError, match=r"has the tables fragen, more\..*\n.*--query"):
        data_import.detect(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("numbers.csv", b"a,b\n1,2\n3,4\n", "unknown shape"),
        ("lists.jsonl", b"[1]\n[2]\n", "not an object"),
        ("torn.jsonl.gz", gzip.compress(LINES)[:-20], "damaged file"),
        ("locked.zip", zipped({"../up.jsonl": LINES}), "path out of the archive"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_reason(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    view, _ = taken(tmp_path / name)
    assert reason in view["refused"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "expected a table, a text or a folder, found unknown"),
        ("tool.sh", b"echo 1\n", "expected a table, a text or a folder, found code"),
    ],
)
def test_what_is_neither_a_table_nor_a_text_is_refused_by_its_format(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=said):
        data_import.detect(tmp_path / name)


def test_a_folder_of_nothing_known_names_its_files(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(ValueError, match=r"none of its 1 files.*photo\.jpg: left out"):
        data_import.detect(tmp_path / "own")


def test_a_database_on_a_server_stays_there_and_its_tables_are_named(monkeypatch):
    monkeypatch.setattr(databases, "tables", lambda address: ["orders", "tickets"])
    address = "postgresql://reader@db.example.org/support"
    sources = data_import.detect_on_server(address, "SELECT a, b FROM tickets ORDER BY id")
    (source,) = TypeAdapter(tuple[ExampleSource, ...]).validate_python(sources.examples)
    assert source.database == address
    with pytest.raises(
        ValueError, match=r"^postgresql://db.example.org/support: .* tables orders, tickets\. .*\n.*--query"
    ):
        data_import.detect_on_server(address, None)
    for place in ("postgresql://reader:secret@db.example.org/support", f"{address}?password=secret"):
        with pytest.raises(ValueError, match=r"^postgresql://db.example.org/support: .* password") as error:
            data_import.detect_on_server(place, None)
        assert "secret" not in str(error.value)


def test_a_saved_data_set_with_columns_of_its_own_and_several_splits(tmp_path):
    import datasets

    rows = {"Frage": [prompt for prompt, _ in PAIRS], "Antwort": [completion for _, completion in PAIRS]}
    saved = tmp_path / "saved"
    whole = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": whole, "extra": whole.select(range(2))}).save_to_disk(str(saved))
    sources = data_import.detect(saved)
    assert sources.files == (
        "saved: split train is taken, extra not: add it as a source with `split`, or to `ingest.benchmarks`",
    )
    adapter = TypeAdapter(tuple[ExampleSource, ...])
    named = sources.with_columns({"prompt": "Frage", "response": "Antwort"})
    assert preview(adapter.validate_python(named.examples))["kept"] == len(PAIRS)
    view, guessed = taken(saved)
    assert (view["kept"], guessed.examples[0]["columns"]) == (
        len(PAIRS),
        named.examples[0]["columns"],
    )
    datasets.DatasetDict({"test": whole}).save_to_disk(str(tmp_path / "other"))
    assert data_import.detect(tmp_path / "other").examples[0]["split"] == "test"
    for damage in ("{", "[]", "{}"):
        (saved / "dataset_dict.json").write_text(damage)
        with pytest.raises(ValueError, match=r"dataset_dict\.json: no data set was saved here, or it is damaged"):
            data_import.detect(saved)


def test_a_saved_data_set_keeps_what_it_holds_out(tmp_path):
    import datasets

    rows = {"question": [prompt for prompt, _ in PAIRS], "answer": [completion for _, completion in PAIRS]}
    whole = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": whole, "validation": whole, "test": whole}).save_to_disk(str(tmp_path / "saved"))
    sources = data_import.detect(tmp_path / "saved")
    splits = [(source.get("split", "train"), source.get("held_out")) for source in sources.examples]
    assert splits == [("train", None), ("validation", "valid"), ("test", "test")]
    assert sources.files == ("saved: split validation is held out for valid", "saved: split test is held out for test")


@pytest.mark.parametrize(
    ("names", "held_out"),
    [
        (("train.jsonl", "validation.jsonl", "test.jsonl"), {"validation.jsonl": "valid", "test.jsonl": "test"}),
        (("data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"), {"data/test-00000-of-00001.jsonl": "test"}),
        (("faq.jsonl", "faq_dev.jsonl"), {"faq_dev.jsonl": "valid"}),
        (("train.jsonl", "more.jsonl"), None),
        (("test.jsonl",), None),
        (("contest.jsonl", "devices.jsonl"), None),
    ],
)  # fmt: skip
def test_files_whose_names_hold_them_out_stay_so(tmp_path, names, held_out):
    folder = tmp_path / "faq"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"question": "Why?", "answer": "So."}\n')
    sources = data_import.detect(folder)
    if held_out is None:
        assert sources.examples == ({"from": "file", "path": folder.as_posix()},)
        return
    assert {
        Path(source["path"]).relative_to(folder).as_posix(): source.get("held_out") for source in sources.examples
    } == (dict.fromkeys(names) | held_out)
    assert {source["domain"] for source in sources.examples} == {"faq"}
    assert [line for line in sources.files if "as its name says" in line] == [
        f"{name}: held out for {split}, as its name says" for name, split in sorted(held_out.items())
    ]


def test_a_column_of_splits_is_named(tmp_path):
    rows = [{"question": f"Why {n}?", "answer": "So.", "split": ("train", "test")[n % 2]} for n in range(6)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    view, sources = taken(tmp_path / "a.jsonl")
    assert (view["splits"], view["unused"]) == (["split"], [])
    assert sources.with_splits(view["splits"]).examples[0]["split_by"] == "split"
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps(row | {"split": f"fold {n}"}) + "\n" for n, row in enumerate(rows))
    )
    view, sources = taken(tmp_path / "b.jsonl")
    assert (view["splits"], view["unused"]) == ([None], ["split"])
    assert "split_by" not in sources.with_splits(view["splits"]).examples[0]


@pytest.mark.parametrize(
    ("texts", "changed", "column"),
    [
        (12, {}, "context"),
        (24, {}, None),  # each of one row
        (4, {}, None),  # too few for splits
        (12, {"context": ""}, "context"),  # a row without one is alone
        (12, {"context": None}, "context"),
        (12, {"context": ["a"]}, None),
        (12, {"about": "x"}, "context"),
    ],
)
def test_the_text_that_several_rows_are_about_keeps_them_together(tmp_path, texts, changed, column):
    rows = [
        {"question": f"When was {n}?", "context": f"It was in the year {n % texts} that all of it began.", "answer": "Then."}
        for n in range(24)
    ]  # fmt: skip
    rows[5] |= changed
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    view, sources = taken(tmp_path / "a.jsonl")
    assert view["groups_by"] == [column]
    assert sources.with_groups(view["groups_by"]).examples[0].get("group") == column
    assert view["kept"] + sum(view["refused"].values()) == 24
    plain = [{name: row[name] for name in ("question", "answer")} | {"text": row["context"]} for row in rows]
    (tmp_path / "b.jsonl").write_bytes(lines(plain))
    assert taken(tmp_path / "b.jsonl")[0]["groups_by"] == [None]  # no example is made of it


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (("train-0.jsonl", "train-1.jsonl", "test-0.jsonl", "test-1.jsonl"), {"train-*.jsonl": None, "test-*.jsonl": "test"}),
        (("0-train.jsonl", "1-train.jsonl", "dev.jsonl"), {"*-train.jsonl": None, "dev.jsonl": "valid"}),
        (("a/train.jsonl", "b/train.jsonl", "dev.jsonl"), {"a/train.jsonl": None, "b/train.jsonl": None, "dev.jsonl": "valid"}),
        (("more.jsonl", "some.jsonl", "dev.jsonl"), {"more.jsonl": None, "some.jsonl": None, "dev.jsonl": "valid"}),
        (("1.jsonl", "2.jsonl", "dev.jsonl"), {"1.jsonl": None, "2.jsonl": None, "dev.jsonl": "valid"}),
    ],
)  # fmt: skip
def test_the_parts_of_a_split_are_one_source_where_a_pattern_names_them_alone(tmp_path, names, paths):
    folder = tmp_path / "sharded"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(f'{{"question": "Why {number}?", "answer": "So {number}."}}\n')
    view, sources = taken(folder)
    assert {
        Path(source["path"]).relative_to(folder).as_posix(): source.get("held_out") for source in sources.examples
    } == paths
    assert view["kept"] == len(names)


def test_sources_of_any_number_are_previewed(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "Why?", "answer": "So."}\n')
    source = {"from": "file", "path": str(file), "domain": "long " * 50_000}
    assert data_import.preview(data_import.Sources((source,), ()))["kept"] == 1
