"""Pieces and shared lines."""

from pathlib import PurePosixPath

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


def without_shared_lines(**pages: str) -> list[str]:
    """What stays of each page; in a page's name two underscores part folders."""
    named = {PurePosixPath(name.replace("__", "/")): text for name, text in pages.items()}
    stay = texts.without_shared_lines(named)
    assert list(stay) == list(named)
    return list(stay.values())


def test_only_lines_that_many_texts_hold_are_removed():
    assert without_shared_lines(a="Menu\nfirst", b="Menu\nsecond", c="  Menu\nthird\n\nfirst") == [
        "first",
        "second",
        "third\n\nfirst",
    ]


def test_lines_that_only_the_files_of_one_folder_share_are_removed_there_and_nowhere_else():
    snmp = {f"snmp__{page}": f"Search snmp\nNotice\n{page}" for page in "abc"}
    other = {f"ssh__{page}": f"Notice\nSearch snmp is a line of text here, {page}" for page in "abcde"}
    quoted = {"ssh__f": "Notice\nSearch snmp\nf"}
    assert without_shared_lines(**snmp, **other, **quoted) == [
        *"abc",
        *(f"Search snmp is a line of text here, {page}" for page in "abcde"),
        "Search snmp\nf",
    ]


def test_a_folder_of_folders_with_a_file_each_shares_lines_too():
    pages = {f"book__{chapter}__index": f"The book\n{chapter}" for chapter in "abc"}
    assert without_shared_lines(**pages, essay="The book\nis old", poem="one", letter="two", note="three", list="four") == [
        *"abc", "The book\nis old", "one", "two", "three", "four",
    ]  # fmt: skip


def test_two_texts_share_nothing_and_half_of_them_is_not_many():
    assert without_shared_lines(a="Menu", b="Menu") == ["Menu", "Menu"]
    assert without_shared_lines(a="end", b="end", c="end", d="one", e="two", f="three")[:3] == ["end"] * 3


@given(st.text())
def test_the_start_of_a_record_can_always_be_stored(text):
    texts.start({"text": text, "broken": "\ud800"}).encode("utf-8")
