"""Calls of tools, their results and schemas are the same records in whichever spelling they come."""

import json

import pytest

from tasks.core.records import Example, Message, Refusal, ToolCall, Unfit, identify
from tasks.io import tables
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.rows.conversations import conversation
from tests import tiny

CALL = {"name": "add", "arguments": {"a": 1, "b": [2, "é"]}}
ARGUMENTS = '{"a": 1, "b": [2, "é"]}'
SCHEMA = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
QUESTION, ANSWER = {"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "3"}
RESULT = {"role": "tool", "content": "3"}


def openai(**call):
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", **call}]}


SPELLINGS = {
    "OpenAI": openai(function={"name": "add", "arguments": json.dumps(CALL["arguments"])}),
    "an object": openai(function=CALL),
    "a null of a table": openai(function={"name": "add", "arguments": {**CALL["arguments"], "c": None}}),
    "flat": {"role": "assistant", "content": "", "tool_calls": [CALL]},
    "OpenAI's older": {"role": "assistant", "content": "", "function_call": CALL},
    "Hermes": {"role": "assistant", "content": f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"},
    "ShareGPT": {"from": "function_call", "value": json.dumps(CALL)},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_call_is_the_same_in_every_spelling(spelling):
    found = conversation({"messages": [QUESTION, SPELLINGS[spelling], RESULT, ANSWER]})
    assert found == [
        Message("user", "1 + 2?"),
        Message("assistant", "", [ToolCall("add", ARGUMENTS)]),
        Message("tool", "3"),
        Message("assistant", "3"),
    ]


def test_ids_and_names_are_kept():
    call = openai(id="call_1", function=CALL)
    found = conversation({"messages": [QUESTION, call, RESULT | {"tool_call_id": "call_1", "name": "add"}, ANSWER]})
    assert found[1].tool_calls == [ToolCall("add", ARGUMENTS, "call_1")]
    assert found[2] == Message("tool", "3", None, "add", "call_1")


def test_hermes_conversations_are_read_with_text_before_calls_and_results_in_marks():
    first, second = (f"<tool_call>{json.dumps(CALL | {'name': name})}</tool_call>" for name in ("add", "sub"))
    turns = [
        {"from": "system", "value": "You have <tools>[]</tools>."},
        {"from": "human", "value": "Both?"},
        {"from": "gpt", "value": f"Let me see.\n{first}\n{second}"},
        {"from": "tool", "value": "<tool_response>\n3\n</tool_response>\n<tool_response>\n-1\n</tool_response>"},
        {"from": "gpt", "value": "3 and -1"},
    ]
    found = conversation({"conversations": turns})
    assert found[2].content == "Let me see."
    assert [call.name for call in found[2].tool_calls] == ["add", "sub"]
    assert found[3] == Message("tool", "3\n-1")
    example = example_from_row(Row("row 1", {"conversations": turns, "tools": [SCHEMA]}), "s", OPTIONS, "d")
    assert example.tools is None, "the system message has them"


def test_a_conversation_may_end_in_a_call_and_have_several_results():
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}
    assert isinstance(conversation({"messages": [QUESTION, calls]}), list)
    assert isinstance(conversation({"messages": [QUESTION, calls, RESULT, RESULT, ANSWER]}), list)


@pytest.mark.parametrize(
    ("turn", "detail"),
    [
        ({"role": "assistant", "content": "<tool_call>{add}</tool_call>"}, "turn 2: a call is no JSON object"),
        (openai(function={"name": "", "arguments": "{}"}), "names no function"),
        (openai(function={"name": "add", "arguments": "[1]"}), "arguments of add"),
        (openai(function={"name": "add", "arguments": "{1"}), "arguments of add"),
        ({"role": "assistant", "tool_calls": "add"}, "not a list"),
        ({"from": "function_call", "value": "add"}, "no JSON object"),
    ],
)
def test_a_broken_call_is_refused_with_its_turn(turn, detail):
    refusal = conversation({"messages": [QUESTION, turn, RESULT, ANSWER]})
    assert isinstance(refusal, Unfit)
    assert refusal.reason == "broken tool call"
    assert detail in refusal.detail


OPTIONS = File.model_validate({"from": "file", "path": "chats.jsonl"})
TURNS = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT, ANSWER]
WRAPPED = {"type": "function", "function": SCHEMA}


@pytest.mark.parametrize("tools", [[WRAPPED], [SCHEMA], json.dumps([WRAPPED]), json.dumps([SCHEMA])])
def test_schemas_are_openais_whatever_the_spelling(tools):
    example = example_from_row(Row("row 1", {"messages": TURNS, "tools": tools}), "s", OPTIONS, "d")
    assert json.loads(example.tools) == [WRAPPED]


@pytest.mark.parametrize("tools", ["{", [1], [{"type": "function", "function": {}}], {"name": "add"}])
def test_schemas_that_are_none_are_refused(tools):
    refusal = example_from_row(Row("row 1", {"messages": TURNS, "tools": tools}), "s", OPTIONS, "d")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "broken tools"


def test_weights_of_characters_are_not_for_calls():
    options = OPTIONS.model_copy(update={"weights": "weights"})
    call = {"role": "assistant", "content": f"<tool_call>{json.dumps(CALL)}</tool_call>"}
    row = {"messages": [QUESTION, call], "weights": [1.0] * len(call["content"])}
    refusal = example_from_row(Row("row 1", row), "s", options, "d")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "weights do not fit"


def test_a_control_token_behind_an_escape_is_seen():
    escaped = '{"name": "add", "arguments": {"a": "\\u003c|im_end|>"}}'
    messages = conversation({"messages": [QUESTION, {"from": "function_call", "value": escaped}]})
    assert "<|im_end|>" in messages[-1].tool_calls[0].arguments


def test_calls_tools_and_judgements_make_another_id_and_their_absence_the_same():
    plain = [Message("user", "1 + 2?"), Message("assistant", "3")]
    assert identify(plain) == "f493510d5772f8c5", "as before there were any of these"
    called = [plain[0], Message("assistant", "3", [ToolCall("add", "{}")])]
    others = [identify(called), identify(plain, tools="[]"), identify(plain, rejected="4"), identify(plain, desirable=True),
              identify(plain, desirable=False), identify([plain[0], Message("assistant", "3", [ToolCall("sub", "{}")])])]  # fmt: skip
    assert len({identify(plain), *others}) == 7


def test_calls_and_judgements_are_kept_in_tables(tmp_path):
    messages = conversation({"messages": TURNS})
    rows = [
        tiny.example(0, messages=messages, tools="[]", desirable=False),
        tiny.example(1, rejected="no"),
    ]
    tables.write(tmp_path / "rows.parquet", rows, Example)
    assert tables.read(tmp_path / "rows.parquet", Example) == rows
