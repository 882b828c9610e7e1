"""Each usual shape is one conversation; everything else is refused with its reason."""

from decimal import Decimal

import pytest

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading.rows.conversations import columns_of_shape, context_answers, conversation

PROMPT, RESPONSE = Message("user", "Why?"), Message("assistant", "Because.")
SPOKEN = {"system": "Be brief.", "user": "Why?", "assistant": "Because."}


def turns_of(*roles):
    return [{"role": role, "content": SPOKEN[role.lower()]} for role in roles]


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


@pytest.mark.parametrize("name", ["context", "passage"])
def test_what_a_question_is_about_stands_below_it(name):
    messages = conversation(
        {"question": "How many?", name: "CREATE TABLE t (a INT)", "answer": "SELECT count(*) FROM t"}
    )
    assert messages[0] == Message("user", "How many?\n\nCREATE TABLE t (a INT)")
    assert conversation({"input": "Why?", "output": "Because."}) == [PROMPT, RESPONSE]
    sentences = {"title": ["A"], "sentences": [["It is so."]]}
    assert conversation({"question": "Why?", name: sentences, "answer": "Because."}) == [PROMPT, RESPONSE]


def test_a_number_is_an_answer():
    assert conversation({"question": "Why?", "answer": 7})[1] == Message("assistant", "7")
    assert conversation({"question": "Why?", "passage": "", "answer": False})[1] == Message("assistant", "False")
    assert conversation({"question": "How much?", "answer": Decimal("1.50")})[1] == Message("assistant", "1.50")


def test_several_turns_are_kept():
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "assistant")]
    assert [message.role for message in conversation({"messages": turns})] == [turn["role"] for turn in turns]


EARLIER = [Message("user", "Who?"), Message("assistant", "You.")]


@pytest.mark.parametrize(
    "history", [[["Who?", "You."]], [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "You."}]]
)
@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Why?", "input": "", "output": "Because."},  # LLaMA-Factory
        {"prompt": "Why?", "response": "Because."},  # ChatGLM
        {"question": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": "Why?", "response": "Because.", "system": "Be brief."},
    ],
)
def test_what_was_said_before_the_prompt_stands_before_it(row, history):
    system = [Message("system", "Be brief.")] if "system" in row else []
    assert conversation(row | {"history": history}) == [*system, *EARLIER, PROMPT, RESPONSE]
    assert "history" in columns_of_shape(row | {"history": history})
    for other in (None, [], "Long ago.", ["Who?"], [["Who?", None]]):
        assert conversation(row | {"history": other}) == [*system, PROMPT, RESPONSE]
        assert "history" not in columns_of_shape(row | {"history": other})


@pytest.mark.parametrize("empty", ["", " \n", None, []])
def test_an_empty_system_message_says_nothing(empty):
    spoken = [{"role": "system", "content": empty}, *turns_of("user", "assistant")]
    assert conversation({"messages": spoken}) == [PROMPT, RESPONSE]
    assert conversation({"messages": spoken, "system": "Be brief."})[0] == Message("system", "Be brief.")
    assert conversation({"prompt": spoken[:2], "completion": "Because."}) == [PROMPT, RESPONSE]


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


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"loss": False}], ids=["weight", "train", "loss"])
def test_an_answer_that_is_not_to_be_trained_on_is_context(mark):
    turns = [*turns_of("user", "assistant", "user", "assistant", "user", "assistant")]
    turns[1] |= mark
    assert conversation({"messages": turns}) == [PROMPT, RESPONSE] * 3
    assert context_answers({"messages": turns}) == [1]
    assert context_answers({"messages": turns_of("system", "user", "assistant")}) is None
    turns[5] |= mark
    assert conversation({"messages": turns}) == [PROMPT, RESPONSE] * 2, "nothing after the last that trains is needed"
    assert context_answers({"messages": turns}) == [1]
    turns.append({"role": "user", "content": "Why?"})
    assert conversation({"messages": turns}) == [PROMPT, RESPONSE] * 2


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "messages": turns_of("user", "assistant")},  # Anthropic
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"system": [{"text": "Be brief."}], "messages": [
            {"role": "user", "content": [{"text": "Why?"}]}, {"role": "assistant", "content": [{"text": "Because."}]},
        ]},  # Bedrock
        {"systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]}, "contents": [
            {"role": "user", "parts": [{"text": "Why?"}]}, {"role": "model", "parts": [{"text": "Because."}]},
        ]},  # Gemini
        {"messages": turns_of("System", "User", "Assistant")},
        {"system": "Be long.", "messages": turns_of("system", "user", "assistant")},
    ],
)  # fmt: skip
def test_a_system_message_of_the_row_goes_before_its_turns(row):
    assert conversation(row) == [Message("system", "Be brief."), PROMPT, RESPONSE]


def turns(*pairs):
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"text": "Once upon a time."}, "unknown shape", "found text"),
        ({}, "unknown shape", "found nothing"),
        ({"prompt": "Why?", "completion": None}, "content is no text", "nothing"),
        ({"prompt": 7, "completion": "Because."}, "content is no text", "int"),
        ({"prompt": "Why?", "completion": float("nan")}, "content is no text", "float"),
        ({"question": "Why?", "answer": {"value": "Because."}}, "unknown shape", "answer holds a dict"),
        ({"question": "Why?", "answer": ["Because.", "So."]}, "unknown shape", "answer holds a list"),
        ({"prompt": "Why?", "completion": "  \n"}, "empty content", "turn 2"),
        ({"messages": "Why?"}, "not a list of turns", "neither JSON nor a transcript"),
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
            turns(("user", [{"text": "This?"}, {"type": "input_audio", "input_audio": {}}]), ("assistant", "x")),
            "content is no text",
            "turn 1 (user) holds a part of type 'input_audio'",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "x", "weight": 0}]},
            "nothing to train on",
            "every answer has weight 0",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "x", "weight": 0.5}]},
            "unknown weight",
            "turn 2 has weight 0.5",
        ),
        (turns(("user", "Why?")), "no answer", "user"),
        (turns(("user", "Why?"), ("assistant", "a"), ("user", "b")), "no answer", "last"),
        (turns(("assistant", "a")), "no answer", "assistant"),
        (turns(("user", "a"), ("user", "b"), ("assistant", "c")), "turns out of order", "alternate"),
        (turns(("user", "a"), ("system", "b"), ("assistant", "c")), "turns out of order", "system"),
        (
            turns(("system", "a"), ("system", "b"), ("user", "c"), ("assistant", "d")),
            "turns out of order",
            "turn 2 is a system",
        ),
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
