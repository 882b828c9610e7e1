"""Text of others is shown as what it is."""

from tasks.core.text.visible import visible


def test_controls_are_spelled_out_and_line_ends_are_kept():
    assert visible("a\tb\n\x00\x1b[0m\u202e é 漢", 100) == "a\tb\n\\u0000\\u001b[0m\\u202e é 漢"


def test_of_a_long_text_the_start_is_shown_and_how_much_is_left():
    assert visible("abcde", 5) == "abcde"
    assert visible("abcdefg", 5) == "abcde\n… 2 characters more"
