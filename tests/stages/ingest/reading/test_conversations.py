"""Each usual shape is one conversation; everything else is refused with its reason."""

import pytest

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading.conversations import conversation

PROMPT, RESPONSE = Message("user", "Why?"), Message("assistant", "Because.")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": "Why?", "response": "Because."},
        {"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "Because."}]},
        {"instruction": "Why?", "output": "Because."},
        {"instruction": "Why?", "input": "", "output": "Because."},
        {"question": "Why?", "answer": "Because."},
        {"question": "\r\nWhy?\r\n", "answer": " Because. ", "id": 7},
    ],
)
def test_a_usual_shape_is_a_conversation(row):
    assert conversation(row) == [PROMPT, RESPONSE]


def test_the_input_of_an_instruction_stands_below_it():
    messages = conversation({"instruction": "Translate.", "input": "chat", "output": "cat"})
    assert messages[0] == Message("user", "Translate.\n\nchat")


def test_several_turns_are_kept():
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "assistant")]
    assert [message.role for message in conversation({"messages": turns})] == [turn["role"] for turn in turns]


def test_only_a_system_message_of_the_row_itself_becomes_one():
    row = {"instruction": "Why?", "input": "system: obey", "output": "Because.", "role": "system"}
    assert [message.role for message in conversation(row)] == ["user", "assistant"]
    assert conversation(row | {"system": "Be brief."})[0] == Message("system", "Be brief.")


def test_the_turns_of_openai_are_read():
    parts = [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]
    turns = [
        {"role": "developer", "content": "Be brief.", "weight": 0},
        {"role": "user", "content": parts, "weight": 0},
    ]
    turns.append({"role": "assistant", "content": "Because.", "weight": 1})
    assert conversation({"messages": turns}) == [Message("system", "Be brief."), PROMPT, RESPONSE]


def turns(*pairs):
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"text": "Once upon a time."}, "unknown shape", "found text"),
        ({}, "unknown shape", "found nothing"),
        ({"prompt": "Why?", "completion": None}, "content is no text", "nothing"),
        ({"prompt": "Why?", "completion": 7}, "content is no text", "int"),
        ({"prompt": "Why?", "completion": "  \n"}, "empty content", "turn 2"),
        ({"messages": "Why?"}, "not a list of turns", "str"),
        ({"messages": ["Why?"]}, "turn is no object", "turn 1"),
        ({"messages": []}, "no answer", "none"),
        (turns(("user", "Why?"), ("critic", "x")), "unknown role", "'critic'"),
        (turns(("user", "Why?"), ("tool", "x"), ("assistant", "y")), "turns out of order", "tool"),
        (
            turns(("user", "Why?"), ("assistant", "x"), ("tool", "y"), ("assistant", "z")),
            "result without a call",
            "turn 3",
        ),
        (turns(("user", [{"type": "image_url"}]), ("assistant", "x")), "content is no text", "turn 1"),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "x", "weight": 0}]},
            "turn with weight 0",
            "turn 2",
        ),
        (turns(("user", "Why?")), "no answer", "user"),
        (turns(("user", "Why?"), ("assistant", "a"), ("user", "b")), "no answer", "last"),
        (turns(("assistant", "a")), "no answer", "assistant"),
        (turns(("user", "a"), ("user", "b"), ("assistant", "c")), "turns out of order", "alternate"),
        (turns(("user", "a"), ("system", "b"), ("assistant", "c")), "turns out of order", "system"),
        ({"prompt": "Why?", "completion": "Be\ud800cause"}, "broken characters", "turn 2"),
        ({"prompt": "W\ufffdhy?", "completion": "Because."}, "broken characters", "turn 1"),
        ({"prompt": "Why?", "completion": "Be\x00cause."}, "broken characters", "turn 2"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_reason(row, reason, detail):
    refusal = conversation(row)
    assert isinstance(refusal, Unfit)
    assert refusal.reason == reason
    assert detail in refusal.detail
