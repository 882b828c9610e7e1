"""Incoming prompts are read from every shape that `ingest` takes, with or without a response."""

import json

import pytest

from tasks.core.records import Refusal
from tasks.stages.ingest.reading import incoming


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_with_and_without_a_response(tmp_path):
    user, answer = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
    call = {"type": "function", "function": {"name": "ask", "arguments": "{}"}}
    rows = [
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": "Why?"},
        {"question": "Why?", "answer": None},
        {"messages": [user, answer]},
        {"messages": [user, answer, user]},
        {"text": "Why?"},
        {"system": "Be brief.", "prompt": "Why?"},
        {"instruction": "Why?", "input": "It is so."},
        {"input": "Why?"},
        {"system": "Be brief.", "messages": [user]},
        {"prompt": "Why?", "completion": " "},
        {"messages": [user, {"role": "assistant", "content": ""}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": None}]},
        {"prompt": "Why?", "completion": [{"role": "assistant", "content": ""}]},
        {"messages": [user, {"role": "assistant", "content": "", "tool_calls": [call]}]},
    ]
    examples = list(incoming.read([write(tmp_path / "in.jsonl", *rows)]))
    spoken = [[message.content for message in example.messages] for example in examples]
    none = incoming.NONE
    assert spoken == [
        ["Why?", "Because."],
        ["Why?", none],
        ["Why?", none],
        ["Why?", "Because."],
        ["Why?", "Because.", "Why?", none],
        ["Why?", none],
        ["Be brief.", "Why?", none],
        ["Why?\n\nIt is so.", none],
        ["Why?", none],
        ["Be brief.", "Why?", none],
        *[["Why?", none]] * 4,
        ["Why?", ""],
    ]


def test_tools_come_in_as_ingest_reads_them(tmp_path):
    tool = {"type": "function", "function": {"name": "ask", "parameters": {"type": "object", "properties": {}}}}
    broken = {"tools": [{"type": "web_search"}]}
    rows = [{"prompt": "Why?"}, {"prompt": "Why?", "tools": [tool]}, {"prompt": "Why?", "completion": "So."} | broken]
    without, having, broken = incoming.read([write(tmp_path / "in.jsonl", *rows)])
    assert (without.tools, json.loads(having.tools)) == (None, [tool])
    assert without.id != having.id
    assert broken.reason == "broken tools"


@pytest.mark.parametrize("tools", [[{"type": "web_search"}], "a hammer and a saw"])
def test_a_prompt_alone_is_read_without_what_is_no_schema(tmp_path, tools):
    (read,) = incoming.read([write(tmp_path / "in.jsonl", {"prompt": "Why?", "tools": tools})])
    assert (read.prompt[0].content, read.tools) == ("Why?", None)


@pytest.mark.parametrize("column", ["messages", "prompt"])
def test_neighbouring_turns_of_one_role_are_one_where_no_answer_follows(tmp_path, column):
    turns = [{"role": role, "content": text} for role, text in zip(["system"] * 2 + ["user"] * 2, "abcd", strict=True)]
    rows = [{column: turns}, {"messages": [*turns, {"role": "assistant", "content": "e"}]}]
    read, answered = incoming.read([write(tmp_path / "in.jsonl", *rows)])
    assert [(message.role, message.content) for message in read.prompt] == [("system", "a\n\nb"), ("user", "c\n\nd")]
    assert answered.reason == "turns out of order"


def test_a_prompt_that_cannot_be_read_is_refused_for_its_own_reason(tmp_path):
    user = {"role": "user", "content": "Why?"}
    rows = [
        {"messages": [user, {"role": "tool", "content": "5"}]},
        {"messages": [{"role": "assistant", "content": "So."}]},
    ]
    rows += [{"messages": []}, {"messages": [user, {"role": "x", "content": "y"}]}, {"messages": [user, "why"]}]
    reasons = [row.reason for row in incoming.read([write(tmp_path / "in.jsonl", *rows)])]
    assert reasons == ["turns out of order", "no answer", "no answer", "unknown role", "turn is no object"]


def test_what_is_no_prompt_is_refused_with_its_place(tmp_path):
    path = write(tmp_path / "in.jsonl", {"a": 1}, {"prompt": 3})
    path.write_text(path.read_text() + "{\n")
    refusals = list(incoming.read([path]))
    assert [(row.where, row.reason) for row in refusals] == [
        ("line 1", "unknown shape"),
        ("line 2", "content is no text"),
        ("line 3", "not JSON"),
    ]
    assert all(isinstance(row, Refusal) and row.source == path.as_posix() for row in refusals)


def test_a_folder_is_its_tables_in_order(tmp_path):
    paths = [write(tmp_path / "in" / name, {"prompt": name}) for name in ("b.jsonl", "a.jsonl", "deep/c.ndjson")]
    (tmp_path / "in/notes.txt").write_text("no table")
    assert incoming.files([tmp_path / "in"]) == [paths[1], paths[0], paths[2]]


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path):
    (tmp_path / "notes.txt").write_text("no table")
    with pytest.raises(ValueError, match=r"notes.txt: expected a table"):
        incoming.files([tmp_path / "notes.txt"])
    with pytest.raises(FileNotFoundError, match="no such file"):
        incoming.files([tmp_path / "gone.jsonl"])
