"""A judge's score is read where its answer stands."""

from tasks import methods
from tasks.core.records import Message
from tasks.stages.diagnose import judging
from tests import tiny as small
from tests.engine.chat_templates import OPENING, tokenizer


def test_no_score_is_read_in_the_reasoning_that_the_prompt_opens():
    words, curator = tokenizer(OPENING), methods.load("curators", "middo")
    row = small.example(messages=[Message("user", "Well?"), Message("assistant", "Yes.")])
    lead, _ = judging.digits(words, curator.lead)
    for branch in judging.tree(row, curator, words, lead).branches:
        assert words.decode(branch.ids).endswith(f"<think>\n\n</think>\n\n{curator.lead}")
