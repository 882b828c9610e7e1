"""Options are scored where an answer stands."""

from dataclasses import replace

import pytest

from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.records import Message
from tasks.engine.inference.scoring import Loss
from tasks.stages.evaluate.checks import likelihood
from tests import tiny as small
from tests.engine.chat_templates import CUTTING, OPENING, tokenizer


@pytest.mark.parametrize("family", [OPENING, CUTTING], ids=["opening", "cutting"])
def test_no_option_stands_in_the_reasoning_that_the_prompt_opens(family):
    words, read = tokenizer(family), []
    check = registry.parse({"kind": "choice", "options": "options", "answer": "text"})
    item = {"question": "Which?", "options": ["red", "blue"], "answer": "red"}
    row = small.example(messages=[Message("user", "Which?"), Message("assistant", "red")])
    row = replace(row, tests=registry.tests(check, Row("Which?", "red", item)))

    def losses(sequences):
        read.extend(words.decode(sequence.ids) for sequence in sequences)
        return [Loss(sequence.id, 1.0, 1) for sequence in sequences]

    likelihood.score_options([row], words, losses)
    assert len(read) == 2
    assert all("<think>\n\n</think>\n\n" in text and text.endswith(("red", "blue")) for text in read)
