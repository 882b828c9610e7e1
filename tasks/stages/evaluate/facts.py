"""Facts that were written into a model: told in their own words, in other words, and others told as before.

The three shares of the editing literature (success, generalisation to a rephrased question, locality), as Meng et al. 2022,
https://arxiv.org/abs/2202.05262, define them, over greedy answers as a whole. An answer is a fact's if it equals it but for case and
punctuation.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.core.answers.base import PASSED, WRONG, Grade
from tasks.core.answers.exact import Exact
from tasks.core.records import LOCALITY, REPHRASE, SUCCESS, Message, Result, content_id
from tasks.engine.inference.generation import Response
from tasks.io import pinned, provenance
from tasks.stages.evaluate.config import FactsConfig
from tasks.stages.evaluate.solve import TRUNCATED

EXACT = Exact(ignore_case=True, ignore_punctuation=True)
CHANGED = "changed"
"""The outcome of an answer about somebody else that is another one than before."""
Ask = Callable[[Sequence[Sequence[Message]]], Sequence[Response]]
"""Returns the greedy response of a model to each prompt."""


@dataclass(frozen=True)
class Fact:
    """A fact that is written into a model."""

    prompt: str
    completion: str
    rephrase: str
    """The same question in other words."""
    locality: str
    """A question of the same form whose answer is to stay as it is."""


def read(path: Path) -> list[Fact]:
    """Return the facts of a file of JSON lines. Raises ValueError as `check` does, and for a line that is no fact, with its number."""
    facts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fact = Fact(**json.loads(line))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: a fact has the keys prompt, completion, rephrase and locality ({error})."
            ) from None
        if others := [key for key, value in asdict(fact).items() if not isinstance(value, str)]:
            raise ValueError(f"{path}, line {number}: {others[0]} is no text.")
        facts.append(fact)
    try:
        return check(facts)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from None


def check(facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts. Raises ValueError for an empty text, and for one question with two answers."""
    answers: dict[str, tuple[int, str]] = {}
    for number, fact in enumerate(facts, 1):
        if empty := [key for key, text in asdict(fact).items() if not text.strip()]:
            raise ValueError(f"fact {number}: {empty[0]} is empty. Write it, or remove the fact.")
        first, answer = answers.setdefault(fact.prompt, (number, fact.completion))
        if answer != fact.completion:
            raise ValueError(
                f"facts {first} and {number} answer {fact.prompt!r} by {answer!r} and by {fact.completion!r}. Remove one of them."
            )
    return list(facts)


def chosen(config: FactsConfig) -> list[Fact]:
    """Return the facts to ask for, the first ones of the file. Raises ValueError if it is not the file that the settings name."""
    if not config.path.is_file():
        raise ValueError(f"evaluate.facts.path: there is no file {config.path}.")
    pinned.check(config.path, provenance.digest(config.path), config.digest, "evaluate.facts.digest")
    return read(config.path)[: config.items]


def measure(facts: Sequence[Fact], ask: Ask, ask_before: Ask) -> list[Result]:
    """Return the results of `SUCCESS`, `REPHRASE` and `LOCALITY` of each fact.

    `ask` asks the measured model, `ask_before` the one that it was trained from: others are told as before if both answer alike.
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
    """Return the grade of an answer that is to be the reference."""
    return EXACT.grade(answer, EXACT.grade(reference, "").parsed)


def _result(measure: str, fact: Fact, response: Response, reference: str, failure: str) -> Result:
    score, verdict, parsed, _ = grade(response.text, reference)
    outcome = PASSED if verdict == PASSED else failure if response.ended else TRUNCATED
    item = content_id(fact.prompt, fact.completion)
    return Result(
        measure, item, item, None, score, 1, 1, outcome, response.text, parsed=parsed, expected=reference.strip()
    )
