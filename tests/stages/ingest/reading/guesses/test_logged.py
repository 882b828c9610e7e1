"""Logs of requests and responses are conversations, wherever the two have their turns."""

import json

import pytest

from tasks.core.records import Example, Refusal
from tasks.stages.ingest.reading.guesses.logged import guess_logged
from tasks.stages.ingest.reading.guesses.table import guess
from tests.stages.ingest.reading.guesses.rows import read

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "So."}
TOLD = ["Be brief.", "Why?", "So."]


def langchain(kind, text):
    return {"lc": 1, "type": "constructor", "id": ["langchain", f"{kind}Message"], "kwargs": {"content": text}}


def gemini(role, text):
    return {"role": role, "parts": [{"text": text}]}


def spoken(role, text):
    return {"role": role, "parts": [{"type": "text", "content": text}]}


LOGS = {
    "OpenAI": {"request": {"messages": [SYSTEM, USER]}, "response": {"choices": [{"index": 0, "message": ANSWER}]}},
    "OpenAI, stored": {"choices": [{"message": ANSWER}], "input": [SYSTEM, USER], "metadata": {}},
    "LiteLLM": {"messages": [SYSTEM, USER], "response": {"choices": [{"message": ANSWER}]}},
    "Anthropic": {"request": {"system": "Be brief.", "messages": [USER]}, "response": {"type": "message", **ANSWER}},
    "Gemini": {
        "request": {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [gemini("user", "Why?")]},
        "response": {"candidates": [{"content": gemini("model", "So."), "finishReason": "STOP"}]},
    },
    "Bedrock": {
        "input": {"inputContentType": "application/json", "inputBodyJson": {"system": [{"text": "Be brief."}], "messages": [USER]}},
        "output": {"outputContentType": "application/json", "outputBodyJson": {"output": {"message": ANSWER}}},
    },
    "Langfuse": {"id": "1", "input": [SYSTEM, USER], "output": ANSWER},
    "Langfuse, a text": {"id": "1", "input": [SYSTEM, USER], "output": "So."},
    "Langfuse, a table": {"input": json.dumps({"messages": [SYSTEM, USER]}), "output": json.dumps(ANSWER)},
    "LangSmith": {"inputs": {"messages": [SYSTEM, USER]}, "outputs": {"messages": [SYSTEM, USER, ANSWER]}},
    "LangSmith, runs": {
        "inputs": {"messages": [[langchain("System", "Be brief."), langchain("Human", "Why?")]]},
        "outputs": {"generations": [[{"text": "So.", "message": langchain("AI", "So.")}]]},
    },
    "LangSmith, a set of chats": {
        "inputs": [{"type": "system", "data": {"content": "Be brief."}}, {"type": "human", "data": {"content": "Why?"}}],
        "outputs": {"type": "ai", "data": {"content": "So."}},
    },
    "OpenTelemetry": {
        "attributes": {
            "gen_ai.input.messages": json.dumps([spoken("system", "Be brief."), spoken("user", "Why?")]),
            "gen_ai.output.messages": json.dumps([spoken("assistant", "So.")]),
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("row", LOGS.values(), ids=LOGS)
def test_a_log_of_requests_and_responses_is_read(row):
    example = read(row, guess([row] * 5))
    assert isinstance(example, Example), example
    assert [message.content for message in example.messages] == TOLD


def test_a_request_without_a_response_is_refused():
    row = LOGS["OpenAI"]
    broken = read(row | {"response": {"choices": []}}, guess([row] * 5))
    assert isinstance(broken, Refusal)
    assert broken.reason == "columns do not fit"


def test_a_system_message_that_some_requests_lack_is_left_out_in_these():
    row = LOGS["Anthropic"]
    example = read(row | {"request": {"messages": [USER]}}, guess([row] * 5))
    assert [message.content for message in example.messages] == TOLD[1:]


def test_turns_as_texts_are_no_prompts_though_their_columns_have_usual_names():
    assert guess_logged([LOGS["Langfuse, a table"]], is_usable=True) is not None
    assert guess_logged([LOGS["Langfuse"]], is_usable=True) is None


def test_of_two_answers_none_is_taken_blindly():
    row = {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [ANSWER | {"content": "No."}],
    }
    assert guess_logged([row]) is None
    assert guess([row] * 5).columns.keys() == {"prompt", "response", "rejected"}
