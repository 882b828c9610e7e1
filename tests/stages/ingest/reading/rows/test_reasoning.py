"""Reasoning that data keep beside an answer goes before it, where the settings ask for it."""

import json

import pytest

from tasks.core.records import Example
from tasks.core.text.reasoning import reasoned
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.preview.examples import preview
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.rows.pairs import PairReader
from tasks.stages.ingest.reading.rows.unused import unused

ASKED = {"role": "user", "content": "6 × 7?"}
ANSWERED = {"role": "assistant", "content": "42", "reasoning_content": " 6 × 7\r\n"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}


def source(**options):
    return File.model_validate({"from": "file", "path": "a.jsonl", "reasoning": "reasoning_content", **options})


def read(row, **options):
    example = example_from_row(Row("line 1", row), "a", source(**options), "d")
    assert isinstance(example, Example), example
    return example


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, ANSWERED]},
        {"conversations": [ASKED, {"from": "gpt", "value": "42", "reasoning_content": "6 × 7"}]},
        {"messages": [ASKED, {**ANSWERED, "content": [{"type": "text", "text": "42"}]}]},
        {"question": "6 × 7?", "answer": "42", "reasoning_content": "6 × 7"},
    ],
)
def test_it_stands_before_the_answer_in_tags(row):
    assert read(row).response == reasoned("6 × 7", "42")
    assert PairReader(source()).read(Row("line 1", row)) is None


def test_both_sides_of_a_preference_have_theirs():
    example = read({"prompt": "6 × 7?", "chosen": [ANSWERED], "rejected": [{**ANSWERED, "content": "41"}]})
    assert (example.response, example.rejected) == (reasoned("6 × 7", "42"), reasoned("6 × 7", "41"))


def test_a_turn_that_calls_a_tool_reasons_too():
    turns = [ASKED, {**CALL, "reasoning_content": "f knows."}, {"role": "tool", "content": "42"}, ANSWERED]
    first, last = (message for message in read({"messages": turns}).messages if message.role == "assistant")
    assert (first.content, first.tool_calls[0].name) == (reasoned("f knows.", "").strip(), "f")
    assert last.content == reasoned("6 × 7", "42")


@pytest.mark.parametrize("nothing", [None, "", "  ", ["6 × 7"]])
def test_without_any_the_answer_is_as_it_is(nothing):
    assert read({"messages": [ASKED, {**ANSWERED, "reasoning_content": nothing}]}).response == "42"
    assert read({"question": "6 × 7?", "answer": "42", "reasoning_content": nothing}).response == "42"


def test_checks_expect_what_comes_behind_it():
    example = read({"messages": [ASKED, ANSWERED]}, check="exact")
    assert example.tests.entry == '"42"'


def test_it_is_told_whether_it_is_used():
    row = {"messages": [ASKED, ANSWERED]}
    assert unused([row], source()) == []
    assert unused([row], source(reasoning=None)) == ["turn.reasoning_content"]


def test_weights_are_not_of_reasoning():
    with pytest.raises(ValueError, match="`weights` are of the characters of the answer alone"):
        source(weights="w")


def test_init_says_how_it_would_be_used(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "6 × 7?", "answer": "42", "thinking": "6 × 7", "note": "n"}) + "\n")
    shown = preview((source(path=path, reasoning=None),))
    assert (shown["unused"], shown["reasoning"]) == (["thinking", "note"], ["thinking"])
    assert preview((source(path=path, reasoning="thinking"),))["reasoning"] == []
