"""A plain row is read as the same conversation as any other row, or left to the reader of any row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.records import Example
from tasks.io.sources.record import Row
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.examples import example_from_row
from tasks.stages.ingest.reading.rows.conversations import EXTRAS, PAIRS, SYSTEM, TURNS
from tasks.stages.ingest.reading.rows.pairs import PairReader

OPTIONS = File.model_validate({"from": "file", "path": "a.jsonl"})
NAMES = sorted(
    {
        *(name for pair in PAIRS for name in pair),
        *EXTRAS,
        *SYSTEM,
        *TURNS,
        "label",
        "tools",
        "chosen",
        "rejected",
        "history",
        "id",
    }
)
values = st.sampled_from(
    ["Why?", " Because.\r\n", "", " ", "a\x00", None, 7, True, ["Why?"], [["Who?", "You."]], {"text": "So."}]
)
rows = st.dictionaries(st.sampled_from(NAMES), values, max_size=6)


def any_row(row):
    return example_from_row(Row("line 1", row), "file a.jsonl", OPTIONS, "a")


@given(pair=st.sampled_from(PAIRS), row=rows)
def test_what_is_read_as_a_pair_is_the_conversation_of_any_row(pair, row):
    row = {pair[0]: "Why?", pair[1]: "Because."} | row
    read, example = PairReader(OPTIONS).read(Row("line 1", row)), any_row(row)
    if read is not None:
        assert isinstance(example, Example)
        assert [message.content for message in example.messages] == [read.prompt, read.response]
        assert (example.tools, example.rejected, example.desirable) == (None, None, None)


@pytest.mark.parametrize("pair", PAIRS)
def test_plain_rows_are_read_as_pairs(pair):
    row = {pair[0]: "Why?", pair[1]: "Because.", "context": "It is so.", "system": ""}
    read = PairReader(OPTIONS).read(Row("line 1", row))
    assert (read.prompt, read.response) == ("Why?\n\nIt is so.", "Because.")


def test_a_row_with_a_history_is_no_plain_pair():
    row = {"prompt": "Why?", "response": "Because.", "history": [["Who?", "You."]]}
    assert PairReader(OPTIONS).read(Row("line 1", row)) is None
    assert PairReader(OPTIONS).read(Row("line 1", row | {"history": None})) is not None
