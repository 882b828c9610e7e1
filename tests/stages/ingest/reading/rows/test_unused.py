"""What no example is made of is told: columns, and fields of turns."""

import pytest

from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.rows.unused import unused

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because.", "reasoning_content": "Hm."}]


def told(row, **options):
    return unused([row], File.model_validate({"from": "file", "path": "a.jsonl", **options}))


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"question": "Why?", "answer": "Because.", "reasoning": "Hm.", "id": 7}, ["reasoning", "id"]),
        ({"question": "Why?", "context": "It is so.", "system": "Be brief.", "answer": "Because."}, []),
        ({"question": "Why?", "context": {"title": ["A"]}, "answer": "Because."}, ["context"]),
        ({"question": "Why?", "answer": "Because.", "note": None, "tags": []}, []),
        ({"messages": TURNS, "prompt": "Why?"}, ["prompt", "turn.reasoning_content"]),
        ({"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "score": 3}, ["score"]),
        ({"prompt": "Why?", "completion": "Because.", "label": True, "tools": "[]"}, []),
        ({"text": "Once upon a time."}, []),
    ],
)
def test_of_the_usual_shapes(row, names):
    assert told(row) == names


def test_of_columns_and_checks_that_settings_name():
    row = {"title": "T", "body": "B", "final reply": "R", "kind": "K", "gold": "G", "id": 7}
    columns = {"prompt": "{{ title }}: {{ body }}", "response": 'Well. {{ row["final reply"] }}'}
    assert told(row, columns=columns) == ["kind", "gold", "id"]
    check = {"kind": "exact", "reference": "gold"}
    assert told(row, columns=columns, check=check, group="kind") == ["id"]


def test_of_multiple_choice():
    row = {"article": "A", "question": "Q", "options": ["a", "b"], "answer": 1, "subject": "S"}
    assert told(row, check={"kind": "choice", "options": "options"}) == ["subject"]


def test_what_one_row_uses_is_used():
    rows = [{"prompt": "Why?", "completion": "Because."}, {"messages": TURNS[:1], "prompt": "Why?", "label": "x"}]
    assert unused(rows, File.model_validate({"from": "file", "path": "a.jsonl"})) == []
