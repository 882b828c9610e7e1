"""Facts to be written into a model: a file of JSON lines that the settings name, which can be checked before training."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.io import pinned, provenance
from tasks.io.system import files


@dataclass(frozen=True)
class Fact:
    """A fact to be written into a model."""

    prompt: str
    completion: str
    rephrase: str
    """The same question in other words."""
    locality: str
    """A question of the same form whose answer must not change."""


def read(path: Path) -> list[Fact]:
    """Return the facts of a file of JSON lines. Raises ValueError like `check`, and for a line that is not a fact, with its number."""
    facts = []
    for number, line in enumerate(files.lines(path), 1):
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
    """Return the facts. Raises ValueError for an empty text, and for one question with two answers, as `prompt` or as `rephrase`.

    Questions that differ only in case or white space count as the same.
    """
    answers: dict[str, tuple[int, str]] = {}
    for number, fact in enumerate(facts, 1):
        if empty := [key for key, text in asdict(fact).items() if not text.strip()]:
            raise ValueError(f"fact {number}: {empty[0]} is empty. Write it, or remove the fact.")
        for question in (fact.prompt, fact.rephrase):
            first, answer = answers.setdefault(" ".join(question.split()).casefold(), (number, fact.completion))
            if answer != fact.completion:
                raise ValueError(
                    f"facts {first} and {number} answer {question!r} by {answer!r} and by {fact.completion!r}. Remove one of them."
                )
    return list(facts)


def chosen(path: Path, digest: str, items: int) -> list[Fact]:
    """Return the facts to ask for, the first ones of the file. Raises ValueError if it is not the file that the settings name."""
    if not path.is_file():
        raise ValueError(f"evaluate.facts.path: there is no file {path}.")
    pinned.check(path, provenance.digest(path), digest, "evaluate.facts.digest")
    return read(path)[:items]
