"""Exports of chats with assistants are conversations: ChatGPT's tree, Claude's list."""

import pytest

from tasks.core.records import Message
from tasks.stages.ingest.config import File
from tasks.stages.ingest.reading.rows.conversations import conversation
from tasks.stages.ingest.reading.rows.unused import unused


def node(parent, role=None, *parts, **fields):
    message = role and {"author": {"role": role}, "content": {"content_type": "text", "parts": [*parts]}, **fields}
    return {"parent": parent, "message": message}


TREE = {
    "title": "Rain",
    "current_node": "6",
    "mapping": {
        "0": node(None),
        "1": node("0", "system", ""),
        "2": node("1", "user", "Why does it rain?"),
        "3": node("2", "assistant", "No idea."),
        "4": node("2", "assistant", "search(rain)", recipient="browser"),
        "5": node("4", "tool", "Clouds."),
        "6": node("5", "assistant", "Clouds", {"asset_pointer": "an image"}, "cool."),
    },
}


def test_the_branch_that_was_shown_last_is_read():
    assert conversation(TREE) == [Message("user", "Why does it rain?"), Message("assistant", "Clouds\ncool.")]
    assert unused([TREE], File.model_validate({"from": "file", "path": "a.json"})) == ["title"]


def test_answers_in_several_messages_are_one_turn():
    mapping = {
        "1": node(None, "user", "Why?"),
        "2": node("1", "assistant", "Wait."),
        "3": node("2", "assistant", "So."),
    }
    assert conversation({"mapping": mapping, "current_node": "3"})[1] == Message("assistant", "Wait.\n\nSo.")


def test_a_circle_ends():
    mapping = {"1": node("2", "user", "Why?"), "2": node("1", "assistant", "So.")}
    assert [message.role for message in conversation({"mapping": mapping, "current_node": "2"})] == [
        "user",
        "assistant",
    ]


@pytest.mark.parametrize(
    "message",
    [7, {}, {"author": "user"}, {"author": {"role": []}}, {"author": {"role": "user"}, "content": {"parts": 7}}],
)
def test_a_message_that_says_nothing_is_left_out(message):
    mapping = {"1": {"message": message}, "2": node("1", "user", "Why?"), "3": node("2", "assistant", "So.")}
    assert conversation({"mapping": mapping, "current_node": "3"}) == [
        Message("user", "Why?"),
        Message("assistant", "So."),
    ]


def test_claudes_messages_are_read():
    messages = [
        {"sender": "human", "text": "Why?"},
        {"sender": "assistant", "text": "So.", "content": [{"type": "text", "text": "So."}]},
    ]
    assert conversation({"uuid": "7", "chat_messages": messages}) == [
        Message("user", "Why?"),
        Message("assistant", "So."),
    ]
