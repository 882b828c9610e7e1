"""Facts of a generated world, to be written into a model: `python benchmarks/facts.py > params/edits-data/facts.jsonl`.

The names of its people are invented, so no model knows them. A fact has a question that it is trained with, the same question in other
words, and a question about a person about whom nothing is trained.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.io.facts_file import Fact, check  # the path comes first, where this runs as a script

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


def lines(facts: Sequence[Fact]) -> Iterator[str]:
    """Yield the facts as JSON."""
    return (json.dumps(asdict(fact)) for fact in facts)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("\n".join(lines(check(world(COUNT, SEED)))))
