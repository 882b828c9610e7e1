"""Tasks that reasoning-gym generates, each with the answer that its own verifier accepts."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Tests
from tasks.io import packages

KEY = "ingest: reasoning-gym"


@dataclass(frozen=True)
class Puzzle:
    """One generated item."""

    number: int
    question: str
    answer: str | None
    """None where the generator gives none."""
    entry: str
    """The generator's own record as JSON: what the verifier needs."""
    score: float
    """What the verifier gives the answer: 1 is right."""


def puzzles(task: str, size: int, seed: int, settings: Mapping[str, Any]) -> Iterator[Puzzle]:
    """`size` items of the data set `task`.

    Raises ValueError where the package or the data set does not exist, or does not take the settings.
    """
    packages.version("reasoning-gym", KEY)
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        near = difflib.get_close_matches(task, DATASETS, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(sorted(DATASETS))}."
        raise ValueError(f"{KEY} has no data set {task!r}. {hint}")
    try:
        data = reasoning_gym.create_dataset(task, **{"seed": seed, "size": size, **settings})
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{KEY}: {task} does not take {dict(settings)}: {error}") from None
    for number in range(size):
        entry = data[number]
        answer = entry["answer"]
        score = data.score_answer(answer, entry) if isinstance(answer, str) else 0.0
        yield Puzzle(number, entry["question"], answer, json.dumps(entry, default=str, sort_keys=True), float(score))


def score(tests: Tests, answer: str) -> float:
    """What the verifier gives an answer: 1 is right."""
    from reasoning_gym.factory import create_dataset

    return float(create_dataset(tests.code, size=1, seed=0).score_answer(answer.strip(), json.loads(tests.entry)))
