"""Words, pieces and shared lines."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.stages.ingest import texts


@given(st.text(alphabet="ab \n", max_size=300), st.integers(8, 50))
def test_pieces_are_the_text_and_none_is_too_long(text, limit):
    parts = list(texts.pieces(text, limit))
    assert "".join(parts) == text
    assert all(len(part) <= limit for part in parts)


def test_pieces_end_at_blank_lines():
    assert list(texts.pieces("one one\n\ntwo two\n\nthree", 18)) == ["one one\n\ntwo two\n\n", "three"]


def test_words_ignore_case_punctuation_and_underscores():
    assert texts.words("Merge_sorted(a, B2) != None") == ["merge", "sorted", "a", "b2", "none"]


def test_scripts_without_spaces_give_a_word_for_each_character():
    assert texts.words("機械学習 rocks") == ["機", "械", "学", "習", "rocks"]


def test_only_lines_that_many_texts_hold_are_removed():
    pages = ["Menu\nfirst", "Menu\nsecond", "  Menu\nthird\n\nfirst"]
    assert texts.without_shared_lines(pages, 2) == ["first", "second", "third\n\nfirst"]


@given(st.text())
def test_the_start_of_a_record_can_always_be_stored(text):
    texts.start({"text": text, "broken": "\ud800"}).encode("utf-8")
