"""A source's check becomes the tests of its examples; rows that it does not fit are refused, and all of them is an error."""

import json

import pytest

from tasks.core.answers import registry
from tasks.core.records import Example, Refusal
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import read_rows

GSM8K = [
    {"question": "Two and two?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"},
    {"question": "A thousand and one?", "answer": "It is\n#### 1,001"},
    {"question": "Who?", "answer": "Nobody."},
]
CHOICES = [
    {"question": "Which is red?", "choices": ["blood", "milk"], "answer": 0},
    {"question": "Which is white?", "choices": ["blood", "milk"], "answer": "milk"},
    {"question": "Which is blue?", "choices": ["blood", "milk"], "answer": "sky"},
]


def read(tmp_path, rows, check):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = File.model_validate({"from": "file", "path": path, "check": check})
    records = [item.record for item in read_rows(source, 0)]
    return [r for r in records if isinstance(r, Example)], [r for r in records if isinstance(r, Refusal)]


def test_examples_carry_their_check_and_what_it_expects(tmp_path):
    examples, refusals = read(tmp_path, GSM8K, "number")
    assert [registry.of(example.tests)[1] for example in examples] == ["4", "1001"]
    assert [(r.reason, r.detail) for r in refusals] == [("check does not fit: no number", "'Nobody.'")]
    plain, _ = read(tmp_path, GSM8K, None)
    assert [example.id for example in plain][:2] == [example.id for example in examples]


def test_multiple_choice_is_written_out(tmp_path):
    examples, refusals = read(tmp_path, CHOICES, {"kind": "choice", "options": "choices"})
    assert [example.response for example in examples] == ["A", "B"]
    assert examples[1].prompt[0].content == "Which is white?\n\nA) blood\nB) milk"
    (refusal,) = refusals
    assert refusal.reason == "check does not fit: choices without the right one"
    assert refusal.detail == "'answer' is 'sky'; the options are blood, milk"


def test_a_check_that_fits_no_row_is_an_error_with_counts_and_the_first_three(tmp_path):
    rows = [{"question": f"Who is {n}?", "answer": f"Nobody {'I' * n}"} for n in range(1, 6)]
    with pytest.raises(
        ValueError, match=r"check `number` fits none of its 5 rows \(5 no number\)\. The first: line 1"
    ) as caught:
        read(tmp_path, rows, "number")
    assert all(f"line {n}: 'Nobody {'I' * n}'" in str(caught.value) for n in (1, 2, 3))
    assert "line 4" not in str(caught.value)
