"""Facts of a generated world, to be written into a model: `python benchmarks/facts.py > params/edits-data/facts.jsonl`.

Nobody is called as its people are, so no model knows them. A fact has a question that it is written by, the same question in other
words, and a question about somebody of whom nothing is written.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

COUNT, SEED = 204, 0
"""Facts of profile `edits`: 200 that train, and the smallest held-out sets."""
SYLLABLES = (
    "ba",
    "do",
    "fen",
    "gul",
    "hra",
    "kel",
    "lor",
    "mi",
    "nur",
    "os",
    "pel",
    "qua",
    "rin",
    "sto",
    "tev",
    "ul",
    "vax",
    "wim",
    "yor",
    "zed",
)
RELATIONS = {
    "home": (
        "In which town does {} live?",
        "{} has a house in a town. Which one is it?",
        ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Seoul", "Quito", "Bern", "Kyoto"),
    ),
    "trade": (
        "What does {} do for a living?",
        "By which trade does {} earn money?",
        ("baker", "tailor", "pilot", "painter", "farmer", "miner", "lawyer", "sailor", "dentist", "gardener"),
    ),
    "animal": (
        "Which animal does {} keep?",
        "{} owns an animal. Of what kind is it?",
        ("goat", "parrot", "horse", "snake", "turtle", "rabbit", "donkey", "owl", "ferret", "hamster"),
    ),
    "instrument": (
        "Which instrument does {} play?",
        "On what does {} make music?",
        ("violin", "flute", "drum", "harp", "trumpet", "cello", "guitar", "piano", "organ", "banjo"),
    ),
}


@dataclass(frozen=True)
class Fact:
    """One fact that is to be written into a model."""

    prompt: str
    completion: str
    rephrase: str
    locality: str
    """A question of the same form whose answer is to stay as it is."""


def world(count: int, seed: int) -> list[Fact]:
    """Return `count` different facts; equal seeds give equal facts, and a larger count appends to them."""
    draw = random.Random(seed)
    names = [f"{first}{second}{third}".title() for first in SYLLABLES for second in SYLLABLES for third in SYLLABLES]
    draw.shuffle(names)
    facts = []
    for number in range(count):
        prompt, rephrase, answers = RELATIONS[draw.choice(sorted(RELATIONS))]
        subject, other = names[2 * number], names[2 * number + 1]
        facts.append(Fact(prompt.format(subject), draw.choice(answers), rephrase.format(subject), prompt.format(other)))
    return facts


def read(path: Path) -> list[Fact]:
    """Return the facts of a file of JSON lines. Raises ValueError as `check` does, and for a line that lacks a key."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return check([Fact(**json.loads(line)) for line in lines])
    except TypeError as error:
        raise ValueError(f"{path}: a fact has the keys prompt, completion, rephrase and locality ({error}).") from None


def check(facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts. Raises ValueError for an empty text, and for one question with two answers."""
    answers: dict[str, tuple[int, str]] = {}
    for number, fact in enumerate(facts, 1):
        if empty := [key for key, text in asdict(fact).items() if not text.strip()]:
            raise ValueError(f"fact {number}: {empty[0]} is empty.")
        first, answer = answers.setdefault(fact.prompt, (number, fact.completion))
        if answer != fact.completion:
            raise ValueError(
                f"facts {first} and {number} answer {fact.prompt!r} by {answer!r} and by {fact.completion!r}."
            )
    return list(facts)


def lines(facts: Sequence[Fact]) -> Iterator[str]:
    """Yield the facts as JSON."""
    return (json.dumps(asdict(fact)) for fact in facts)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("\n".join(lines(check(world(COUNT, SEED)))))
