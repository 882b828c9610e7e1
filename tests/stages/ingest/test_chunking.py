"""Chunks are the text, none is too long, and they end at blank lines."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.stages.ingest.chunking import chunk_text


@given(st.text(alphabet="ab \n", max_size=300), st.integers(8, 50))
def test_chunks_are_the_text_and_none_is_too_long(text, limit):
    chunks = list(chunk_text(text, limit))
    assert "".join(chunks) == text
    assert all(len(chunk) <= limit for chunk in chunks)


def test_chunks_end_at_blank_lines():
    assert list(chunk_text("one one\n\ntwo two\n\nthree", 18)) == ["one one\n\ntwo two\n\n", "three"]
