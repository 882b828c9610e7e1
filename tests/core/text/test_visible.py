"""Text of others is shown as what it is."""

import pytest

from tasks.core.text.visible import has_password, visible, without_passwords


def test_controls_are_spelled_out_and_line_ends_are_kept():
    assert visible("a\tb\n\x00\x1b[0m\u202e é 漢", 100) == "a\tb\n\\u0000\\u001b[0m\\u202e é 漢"


def test_of_a_long_text_the_start_is_shown_and_how_much_is_left():
    assert visible("abcde", 5) == "abcde"
    assert visible("abcdefg", 5) == "abcde\n… 2 characters more"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql:///db?host=/s&password=secret&port=1 failed", "postgresql:///db?host=/s&password=***&port=1 failed"),
        ("postgresql://me:sec/ret@host/db", "postgresql://me:***@host/db"),
        ("asked http://me:p@ss:w@127.0.0.1:9/api twice, http://a:b@c", "asked http://***@127.0.0.1:9/api twice, http://***@c"),
        ("https://ghp_token@host/o/r.git", "https://***@host/o/r.git"),
        ("http://127.0.0.1:4200/pages/@me", "http://127.0.0.1:4200/pages/@me"),
        ("https://host/@scope/name", "https://host/@scope/name"),
        ("http://127.0.0.1:5000/#/runs me@example.org", "http://127.0.0.1:5000/#/runs me@example.org"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_its_password(text, shown):
    assert without_passwords(text) == shown


@pytest.mark.parametrize("address", ["postgresql://me:secret@host/db", "postgresql://me:sec/ret@host/db", "postgresql:///db?password=secret"])  # fmt: skip
def test_an_address_with_a_password_is_known(address):
    assert has_password(address)
    assert not has_password("postgresql://me@host:5432/db")
