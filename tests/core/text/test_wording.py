"""A request can be parsed back into its parts; data in a field cannot end the field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.text.wording import Request, field, request, requested


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


@given(st.text(max_size=60))
def test_nothing_in_a_field_ends_it(text):
    for inside in (text, field("data", text), field("data", text) + text):
        shown = field("data", inside)
        end = shown.rsplit("\n", 1)[1]
        assert shown.count(end) == 1


STUB = 'def f(x):\n    """Do it.\n\n    ```\n    code\n    ```\n    """'


@pytest.mark.parametrize("context", ["", "import re\n\n\ndef g():\n    ..."])
def test_a_request_tells_what_it_was_made_of(context):
    assert requested(request("f", STUB, context)) == Request("f", STUB, context)


@pytest.mark.parametrize(
    "prompt", ["", "Write the Python function `f`.", request("f", STUB, "x = 1") + "\nPlease.", "Hello"]
)
def test_another_prompt_is_none(prompt):
    assert requested(prompt) is None
