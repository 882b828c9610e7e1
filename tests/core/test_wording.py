"""What stands in a field stays in it."""

import pytest

from tasks.core.wording import field


@pytest.mark.parametrize("text", ["", "plain", "</data>", "line\n<data 00000000>\nline"])
def test_a_field_holds_the_text_between_marks_that_the_text_does_not_hold(text):
    first, *inside, last = field("data", text).split("\n")
    assert "\n".join(inside) == text
    mark = first.removeprefix("<data ").removesuffix(">")
    assert last == f"</data {mark}>"
    assert mark not in text


def test_a_text_that_knows_its_mark_gets_another():
    mark = field("data", "text").split(">")[0].split()[1]
    known = {"text": mark}

    class Knowing(str):
        """A text that holds whatever mark it would get first."""

        def __contains__(self, part):
            return part == known["text"]

    assert field("data", Knowing("text")).split(">")[0].split()[1] != mark
