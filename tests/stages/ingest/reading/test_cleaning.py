"""Lines that files share are removed, the beginning of any record can be stored, and groups are named by their values."""

import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.stages.ingest.config import File, TextFile
from tasks.stages.ingest.reading import cleaning, shared_lines
from tasks.stages.ingest.reading.documents import read_documents
from tasks.stages.ingest.reading.examples import read_rows
from tasks.stages.ingest.reading.shared_lines import SharedLines


def without_shared_lines(**pages: str) -> list[str]:
    """Return what is kept of each page; in a page's name two underscores separate folders."""
    named = {PurePosixPath(name.replace("__", "/")): text for name, text in pages.items()}
    shared = SharedLines(named.items)
    return [shared.remove(path, text) for path, text in named.items()]


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


def test_lines_of_markup_and_lines_without_letters_are_kept():
    named = {
        PurePosixPath(name): f"{text}\n{number}"
        for number in range(3)
        for name, text in {
            f"{number}.md.gz": "# Usage\n```python\nimport ratchet\n```\n| a |\n|---|",
            f"{number}.TEX": "\\begin{equation}\nx = 1\n\\end{equation}",
            f"{number}.rst.txt": "Usage\n=====",
            f"{number}.html": "Menu\n----\n1",
            f"{number}.example.org.html": "Menu\n2",
        }.items()
    }
    shared = SharedLines(named.items)
    kept = {path: shared.remove(path, text) for path, text in named.items()}
    assert kept == {path: text.removeprefix("Menu\n") for path, text in named.items()}


@given(
    st.lists(st.tuples(st.sampled_from(["", "a/", "a/b/", "c/"]), st.lists(st.sampled_from("xyz"))), max_size=12),
    st.integers(1, 5),
)
def test_blocks_of_files_change_no_shared_line(files, block):
    named = sorted(
        (PurePosixPath(f"{folder}{number}"), "\n".join(lines)) for number, (folder, lines) in enumerate(files)
    )
    whole = SharedLines(lambda: named)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_lines, "BLOCK", block)
        in_blocks = SharedLines(lambda: named)
    assert [in_blocks.remove(*file) for file in named] == [whole.remove(*file) for file in named]


@given(st.text())
def test_the_beginning_of_a_record_can_always_be_stored(text):
    cleaning.beginning({"text": text, "broken": "\ud800"}).encode("utf-8")


def test_a_long_name_of_a_group_ends_in_its_digest_and_an_empty_one_is_none():
    assert [cleaning.group_name(value) for value in ("one", 2, "x" * 200)] == ["one", "2", "x" * 200]
    first, second = (cleaning.group_name("x" * 200 + end) for end in "ab")
    assert first != second
    assert first.startswith("x" * 200)
    assert [cleaning.group_name(value) for value in (None, "", "  ", float("nan"))] == [None] * 4


def test_rows_and_texts_without_a_group_are_refused(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "Why?", "response": f"So {n}.", "text": f"Text {n}", "g": g} for n, g in enumerate(("a", "", None))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"from": "file", "path": file, "group": "g"}
    examples = [row for _, row in read_rows(File.model_validate(settings), 0)]
    for read in (examples, list(read_documents(TextFile.model_validate(settings), "domain"))):
        assert [getattr(row, "reason", "") for row in read] == ["", "no group", "no group"]
    mistyped = TextFile.model_validate(settings | {"group": "gruop"})
    assert {row.reason for row in read_documents(mistyped, "domain")} == {"no group"}


def test_a_row_that_asks_about_no_text_is_a_group_of_its_own(tmp_path):
    file = tmp_path / "rows.jsonl"
    texts = ({"context": "It began in May."}, {"context": "It began in May."}, {"context": ""}, {})
    rows = [{"question": f"When, {n}?", "answer": f"In {n}."} | text for n, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [row for _, row in read_rows(File.model_validate({"from": "file", "path": file, "group": "context"}), 0)]
    assert [row.group == row.source for row in read] == [False, False, True, True]
    assert read[0].group == read[1].group
