"""Turns in parts of several kinds become calls, results of tools and reasoning."""

import json

import pytest

from tasks.core.records import Example, Message, ToolCall, Unfit
from tasks.core.text.reasoning import reasoned
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.rows.conversations import conversation
from tasks.stages.ingest.reading.rows.unused import unused

THOUGHT = {"type": "thinking", "thinking": "look knows", "signature": "s"}
USED = {"type": "tool_use", "id": "t1", "name": "look", "input": {"n": 7}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seven"}]}
TOOL = {
    "name": "look",
    "description": "Look.",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
MESSAGES = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "I look."}, USED]},
    {"role": "user", "content": [RESULT]},
    {"role": "assistant", "content": [{"type": "text", "text": "It is seven."}]},
]  # fmt: skip


def read(**options):
    source = File.model_validate({"from": "file", "path": "a.jsonl", **options})
    example = example_from_row(Row("line 1", {"messages": MESSAGES, "tools": [TOOL]}), "a", source, "d")
    assert isinstance(example, Example), example
    return example


def test_anthropics_calls_and_results_are_openais():
    asked, called, result, answered = read().messages
    assert (called.content, called.tool_calls[0].name, called.tool_calls[0].id) == ("I look.", "look", "t1")
    assert json.loads(called.tool_calls[0].arguments) == {"n": 7}
    assert result == Message("tool", "seven", tool_call_id="t1")
    assert (asked.content, answered.content) == ("What is it?", "It is seven.")
    (schema,) = json.loads(read().tools)
    assert schema["function"] == {"name": "look", "description": "Look.", "parameters": TOOL["input_schema"]}


def test_its_thinking_is_told_and_can_be_trained():
    row = {"messages": MESSAGES, "tools": [TOOL]}
    assert unused([row], File.model_validate({"from": "file", "path": "a.jsonl"})) == ["turn.thinking"]
    assert read(reasoning="thinking").messages[1].content == reasoned("look knows", "I look.")


def test_what_is_said_beside_results_follows_them():
    turns = [*MESSAGES[:2], {"role": "user", "content": [RESULT, {"type": "text", "text": "Well?"}]}, MESSAGES[3]]
    refusal = conversation({"messages": turns})
    assert isinstance(refusal, Unfit)
    assert "user, assistant, tool, user, assistant" in refusal.detail


def test_an_image_among_the_parts_is_refused_as_ever():
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "This?"}, {"type": "image", "source": {}}]},
        MESSAGES[3],
    ]
    assert "a part of type 'image'" in conversation({"messages": turns}).detail


def test_parts_of_odd_kinds_are_refused_and_not_tripped_over():
    for part in (
        {"type": ["tool_use"]},
        {"type": "tool_use", "name": None},
        {"type": "tool_use", "name": "f", "input": 7},
    ):
        assert isinstance(conversation({"messages": [MESSAGES[0], {"role": "assistant", "content": [part]}]}), Unfit)


def test_the_parts_of_openais_responses_are_texts():
    row = {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}],
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So."}]}],
    }
    assert conversation(row) == [Message("user", "Why?"), Message("assistant", "So.")]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
BEDROCK = {
    "messages": [
        {"role": "user", "content": [{"text": "What is it?"}]},
        {
            "role": "assistant",
            "content": [{"text": "I look."}, {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"n": 7}}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "seven"}], "status": "success"}}],
        },
        {
            "role": "assistant",
            "content": [{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "It is seven."}],
        },
    ],
    "toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": SCHEMA}}}]},
}
GEMINI = {
    "contents": [
        {"role": "user", "parts": [{"text": "What is it?"}]},
        {
            "role": "model",
            "parts": [{"text": "I look."}, {"functionCall": {"id": "t1", "name": "look", "args": {"n": 7}}}],
        },
        {"role": "user", "parts": [{"functionResponse": {"id": "t1", "name": "look", "response": {"seen": "seven"}}}]},
        {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "It is seven."}]},
    ],
    "tools": [
        {
            "functionDeclarations": [
                {"name": "look", "parameters": {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}}}
            ]
        }
    ],
}
TELEMETRY = {
    "messages": [
        {"role": "user", "parts": [{"type": "text", "content": "What is it?"}]},
        {"role": "assistant", "parts": [
            {"type": "text", "content": "I look."}, {"type": "tool_call", "id": "t1", "name": "look", "arguments": {"n": 7}},
        ]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "seven"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "It is seven."}]},
    ],
    "tools": [{"name": "look", "parameters": SCHEMA}],
}  # fmt: skip


@pytest.mark.parametrize("row", [BEDROCK, GEMINI, TELEMETRY])
def test_calls_and_results_of_bedrock_gemini_and_opentelemetry_are_openais(row):
    source = File.model_validate({"from": "file", "path": "a.jsonl"})
    example = example_from_row(Row("line 1", row), "a", source, "d")
    assert isinstance(example, Example), example
    asked, called, result, answered = example.messages
    assert (asked.content, answered.content) == ("What is it?", "It is seven.")
    assert (called.content, called.tool_calls) == ("I look.", [ToolCall("look", '{"n": 7}', "t1")])
    assert (result.role, result.tool_call_id) == ("tool", "t1")
    assert "seven" in result.content
    (schema,) = json.loads(example.tools)
    assert schema["function"] == {"name": "look", "parameters": SCHEMA}
    assert unused([row], source) == ["turn.thinking"]


def test_results_within_an_answer_of_claudes_export_stay_between_its_call_and_its_text():
    answer = [
        THOUGHT,
        {"type": "text", "text": "I look."},
        USED,
        RESULT,
        {"type": "token_budget"},
        {"type": "text", "text": "Seven."},
    ]
    row = {"chat_messages": [
        {"sender": "human", "text": "What is it?", "content": [{"type": "text", "text": "What is it?"}]},
        {"sender": "assistant", "text": "Seven.", "content": answer},
    ]}  # fmt: skip
    messages = conversation(row)
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert [message.content for message in messages] == ["What is it?", "I look.", "seven", "Seven."]
