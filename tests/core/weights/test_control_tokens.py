"""The first control token behind an answer ends its turn."""

from types import SimpleNamespace

import pytest

from tasks.core.weights.control_tokens import control_tokens, first_control_token


class Token(str):
    """A token as tokenizers list those that were added to their vocabulary."""

    def __new__(cls, text, special=True):
        token = super().__new__(cls, text)
        token.special = special
        return token


def tokenizer(*tokens):
    return SimpleNamespace(added_tokens_decoder=dict(enumerate(tokens)))


def test_words_that_were_added_are_no_control_tokens():
    assert control_tokens(tokenizer(Token("<end>"), Token("word", special=False))) == {"<end>": 0}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (("<s>", "<end>"), "<end>"),
        (("<end>", "<end>\n"), "<end>\n"),
        (("<end>\n", "<end>"), "<end>\n"),
        (("<other>",), None),
        ((), None),
    ],
)
def test_it_is_the_first_and_the_longest_of_those_that_begin_there(tokens, expected):
    first = first_control_token("<s>Answer<end>\n<s>", tokenizer(*map(Token, tokens)), len("<s>Answer"))
    assert (first and first.group()) == expected
