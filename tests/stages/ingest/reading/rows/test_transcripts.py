"""A conversation in one text is read by the marks before its turns."""

import pytest

from tasks.core.records import Message, Unfit
from tasks.stages.ingest.reading.guesses.table import guess
from tasks.stages.ingest.reading.rows.conversations import conversation
from tasks.stages.ingest.reading.rows.transcripts import transcript

SAID = [("user", "Why?"), ("assistant", "Because\nit is."), ("user", "Is it?"), ("assistant", "Yes.")]
FORMATS = {
    "hh-rlhf": "\n\nHuman: Why?\n\nAssistant: Because\nit is.\n\nHuman: Is it?\n\nAssistant: Yes.",
    "Guanaco": "### Human: Why?### Assistant: Because\nit is.### Human: Is it?### Assistant: Yes.",
    "headings": "### User:\nWhy?\n\n### Assistant:\nBecause\nit is.\n\n### User:\nIs it?\n\n### Assistant:\nYes.",
    "ChatML": "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause\nit is.<|im_end|>\n<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n",
    "Llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nBecause\nit is.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nIs it?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>",
    "Zephyr": "<|user|>\nWhy?</s>\n<|assistant|>\nBecause\nit is.</s>\n<|user|>\nIs it?</s>\n<|assistant|>\nYes.</s>",
    "Gemma": "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nBecause\nit is.<end_of_turn>\n<start_of_turn>user\nIs it?<end_of_turn>\n<start_of_turn>model\nYes.<end_of_turn>",
    "Baize": "[|Human|] Why?\n[|AI|] Because\nit is.\n[|Human|] Is it?\n[|AI|] Yes.\n[|Human|] ",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_the_turns_of_a_transcript_are_read(name):
    assert [(turn["role"], turn["content"]) for turn in transcript(FORMATS[name])] == SAID
    assert conversation({"messages": FORMATS[name]}) == [Message(*turn) for turn in SAID]


def test_what_stands_before_the_first_turn_is_the_systems():
    text = "Below is an instruction.\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3"
    expected = [
        Message("system", "Below is an instruction."),
        Message("user", "Add.\n\n1 and 2"),
        Message("assistant", "3"),
    ]
    assert conversation({"messages": text}) == expected
    assert conversation({"messages": text, "system": "Be brief."}) == expected, "as of turns that begin with one"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Why?",
        "### Human: Why?",
        "# Human: a\n# Assistant: b",
        "He said\n\nHuman: a\n\nAssistant: b",
        "### Human: a\n### Human: b",
    ],
)
def test_other_texts_are_none(text):
    assert transcript(text) is None
    assert isinstance(conversation({"messages": text or " "}), Unfit)


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_of_transcripts_is_guessed(name):
    rows = [{"id": str(n), "text": FORMATS[name].replace("Yes", f"Yes {n}")} for n in range(10)]
    answer = guess([*rows, {"id": "10", "text": "Nothing."}])
    assert (answer.columns, answer.reason) == ({"messages": "text"}, "'text' holds transcripts of conversations")
    plain = [{"text": f"It rains on day {n}."} for n in range(9)]
    assert guess([rows[0], *plain]).columns == {}
