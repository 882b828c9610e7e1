"""Preference pairs and labels are read in their usual spellings; sides that make no pair are refused with the reason."""

from decimal import Decimal

import pytest

from tasks.core.records import Message, Refusal
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row

OPTIONS = File.model_validate({"from": "file", "path": "pairs.jsonl"})
USER = {"role": "user", "content": "Why?"}


def said(text):
    return {"role": "assistant", "content": text}


def read(row):
    return example_from_row(Row("row 1", row), "file pairs.jsonl", OPTIONS, "pairs")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"question": "Why?", "chosen": "Because.", "rejected": "No.", "system": ""},
        {"instruction": "Why?", "chosen_response": "Because.", "rejected_response": "No."},
        {"prompt": [USER], "chosen": [said("Because.")], "rejected": [said("No.")]},
        {"chosen": [USER, said("Because.")], "rejected": [USER, said("No.")]},
        {
            "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
            "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
        },  # hh-rlhf
        {  # UltraFeedback, binarised
            "prompt": "Why?",
            "messages": [USER, said("Because.")],
            "chosen": [USER, said("Because.")],
            "rejected": [USER, said("No.")],
            "score_chosen": 8.0,
        },
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Because."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ],
)
def test_a_pair_is_a_conversation_with_a_rejected_answer(row):
    example = read(row)
    assert example.messages == [Message("user", "Why?"), Message("assistant", "Because.")]
    assert example.rejected == "No."
    assert example.desirable is None


@pytest.mark.parametrize(
    ("row", "desirable"),
    [
        ({"prompt": "Why?", "completion": "Because.", "label": True}, True),
        ({"prompt": "Why?", "completion": "Because.", "label": "False"}, False),
        ({"prompt": [USER], "completion": [said("Because.")], "label": False}, False),
        ({"messages": [USER, said("Because.")], "kto_tag": True}, True),
        ({"prompt": "Why?", "completion": "Because.", "label": "greeting"}, None),
        ({"prompt": "Why?", "completion": "Because.", "label": 1}, True),
        ({"prompt": "Why?", "completion": "Because.", "label": 10**400}, None),
        ({"prompt": "Why?", "completion": "Because.", "label": 0.0}, False),
        ({"prompt": "Why?", "completion": "Because.", "label": "0"}, False),
        ({"prompt": "Why?", "completion": "Because.", "label": "0.0"}, False),
        ({"prompt": "Why?", "completion": "Because.", "label": Decimal(1)}, True),
        ({"messages": [USER, said("Because.")], "kto_tag": "No"}, False),
        ({"prompt": "Why?", "completion": "Because.", "label": 2}, None),
        ({"prompt": "Why?", "completion": "Because.", "label": float("nan")}, None),
        ({"messages": [USER, said("Because.")], "label": True}, None),
    ],
)
def test_a_label_of_a_single_answer_is_its_judgement(row, desirable):
    example = read(row)
    assert example.response == "Because."
    assert example.desirable is desirable


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"prompt": "Why?", "chosen": "No.", "rejected": " No. "}, "equal sides", "the same"),
        ({"prompt": "Why?", "chosen": "", "rejected": "No."}, "empty content", "turn 2 (assistant)"),
        ({"prompt": "Why?", "chosen": "Because.", "rejected": " "}, "empty content", "the rejected side: turn 2"),
        ({"prompt": "Why?", "chosen": "Because.", "rejected": None}, "content is no text", "the rejected side"),
        ({"chosen": "Because.", "rejected": "No."}, "no prompt", "prompt, question"),
        (
            {"chosen": [USER, said("a")], "rejected": [USER | {"content": "How?"}, said("b")]},
            "sides of different prompts",
            "before their last turn",
        ),
        ({"chosen": [USER], "rejected": [USER]}, "no answer", "assistant"),
        (
            {"prompt": "Why?", "chosen": "a", "rejected": '<tool_call>{"name": "f"}</tool_call>'},
            "side calls a tool",
            "compared as texts",
        ),
    ],
)
def test_sides_that_make_no_pair_are_refused(row, reason, detail):
    refusal = read(row)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert detail in refusal.detail


def test_judgements_of_one_prompt_share_a_group_and_have_ids_of_their_own():
    first = read({"prompt": "Why?", "chosen": "Because.", "rejected": "No."})
    second = read({"prompt": "Why?", "chosen": "Because.", "rejected": "Never."})
    label = read({"prompt": "Why?", "completion": "Because.", "label": True})
    plain = read({"prompt": "Why?", "completion": "Because."})
    assert first.group == second.group == label.group != plain.group
    assert len({row.id for row in (first, second, label, plain)}) == 4
