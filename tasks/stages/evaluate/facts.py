"""Measure facts that were written into a model: asked as trained, asked in other words, and unrelated answers that stay the same.

These are the three shares of the editing literature (success, generalisation to a rephrased question, locality), as Meng et al. 2022,
https://arxiv.org/abs/2202.05262, define them, over whole greedy answers. An answer is right if it equals the fact's answer, regardless of
case and punctuation.
"""

from collections.abc import Callable, Sequence

from tasks.core.answers.base import PASSED, WRONG, Grade
from tasks.core.answers.exact import Exact
from tasks.core.records import LOCALITY, REPHRASE, SUCCESS, Message, Result, content_id
from tasks.core.text.reasoning import answer_of
from tasks.engine.inference.generation import Response
from tasks.io.facts_file import Fact
from tasks.stages.evaluate.solve import TRUNCATED

EXACT = Exact(ignore_case=True, ignore_punctuation=True)
CHANGED = "changed"
"""The outcome if the answer to an unrelated question differs from the answer before the edit."""
Ask = Callable[[Sequence[Sequence[Message]]], Sequence[Response]]
"""Returns the greedy response of a model to each prompt."""


def measure(facts: Sequence[Fact], ask: Ask, ask_before: Ask) -> list[Result]:
    """Return the results of `SUCCESS`, `REPHRASE` and `LOCALITY` of each fact.

    `ask` asks the measured model, and `ask_before` the model that it was trained from. An unrelated answer has stayed if both answer alike.
    """
    told, rephrased, others = (
        ask([[Message("user", question)] for question in questions])
        for questions in ([f.prompt for f in facts], [f.rephrase for f in facts], [f.locality for f in facts])
    )
    before = ask_before([[Message("user", fact.locality)] for fact in facts])
    rows = []
    for fact, success, rephrase, other, earlier in zip(facts, told, rephrased, others, before, strict=True):
        rows += [
            _result(SUCCESS, fact, success, fact.completion, WRONG),
            _result(REPHRASE, fact, rephrase, fact.completion, WRONG),
            _result(LOCALITY, fact, other, earlier.text, CHANGED),
        ]
    return sorted(rows, key=lambda row: (row.measure, row.item))


def grade(answer: str, reference: str) -> Grade:
    """Return the grade of an answer against a reference, which may be another model's answer. Both are compared without their reasoning.

    A text whose reasoning has no end holds no answer and is compared as a whole.
    """
    said, expected = (answer_of(text) or text for text in (answer, reference))
    return EXACT.grade(said, EXACT.grade(expected, "").parsed)


def _result(measure: str, fact: Fact, response: Response, reference: str, failure: str) -> Result:
    score, verdict, parsed, _ = grade(response.text, reference)
    outcome = PASSED if verdict == PASSED else failure if response.ended else TRUNCATED
    item = content_id(fact.prompt, fact.completion)
    return Result(
        measure, item, item, None, score, 1, 1, outcome, response.text, parsed=parsed, expected=reference.strip()
    )
