"""Records are what they say, and content ids follow from content alone."""

import dataclasses
import re

import pytest

from tasks.core import records
from tasks.core.records import Message, content_id
from tests import tiny


def test_equal_content_has_equal_ids():
    assert content_id("a", "b") == content_id("a", "b")
    assert re.fullmatch(r"[0-9a-f]{16}", content_id("a"))


@pytest.mark.parametrize("other", [("ab",), ("a", "b", ""), ("b", "a"), ("", "ab"), ('a", "b',)])
def test_parts_are_not_run_together(other):
    assert content_id("a", "b") != content_id(*other)


def test_an_id_is_the_same_everywhere():
    # sha256 of the JSON text ["a", "é"], by `printf '["a", "é"]' | sha256sum`.
    assert content_id("a", "é") == "3cfa89335744ad95"


def test_the_last_message_is_the_response_and_the_rest_its_prompt():
    turns = [Message("system", "s"), Message("user", "u"), Message("assistant", "a")]
    row = tiny.example(messages=turns)
    assert row.prompt == turns[:2]
    assert row.response == "a"


@pytest.mark.parametrize("kind", [kind for kind in vars(records).values() if dataclasses.is_dataclass(kind)])
def test_records_are_frozen(kind):
    assert kind.__dataclass_params__.frozen
