"""Synthetic functions with known defects of three kinds, which a curator should find, and the repaired examples of an oracle refiner.

Some examples answer another function's prompt (`wrong`), some ask for three functions at once (`long`), and some have a topic of their
own (`alone`). The others are unchanged examples of `functions.py`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import functions

from tasks.core.records import Example, Message, identify

SHOULD = {"wrong": ("hard", "low"), "long": ("hard",), "alone": ("sparse",)}
"""The sets to which a planted kind belongs."""
AT_ONCE = 3
BODIES = ("sorted(xs)[:{c}]", "[x * {c} for x in xs]", "max(xs) - {c} * n", "sum(xs) // {c} + n", "xs[::-1][{c}:]")


@dataclass(frozen=True)
class Planted:
    """Examples, and their defects."""

    examples: Sequence[Example]
    kinds: Mapping[str, str]
    """Ids of examples with a defect → its kind."""
    mended: Mapping[str, Example]
    """The repaired form of each example; the example itself if it has no defect."""
    further: Mapping[str, Example]
    """A further example for each one: of its topic, or another function."""
    alike: Sequence[Example]
    """Held-out examples of the topics that only one example has."""


def plant(clean: Sequence[Example], spare: Sequence[Example], shares: Mapping[str, float], seed: int) -> Planted:
    """Plant defects in the clean examples: kind → share. `spare` are as many further examples."""
    draw = random.Random(seed)
    places = list(range(len(clean)))
    draw.shuffle(places)
    kinds: dict[int, str] = {}
    for kind, share in shares.items():
        kinds |= dict.fromkeys(places[len(kinds) : len(kinds) + round(share * len(clean))], kind)
    examples = [_with_defect(kinds.get(place), place, clean, seed) for place in range(len(clean))]
    further = [topic(place, seed, 1) if kinds.get(place) == "alone" else spare[place] for place in range(len(clean))]
    return Planted(
        examples=examples,
        kinds={examples[place].id: kind for place, kind in kinds.items()},
        mended={
            example.id: example if kinds.get(place) in (None, "alone") else clean[place]
            for place, example in enumerate(examples)
        },
        further={example.id: other for example, other in zip(examples, further, strict=True)},
        alike=[topic(place, seed, 2) for place, kind in sorted(kinds.items()) if kind == "alone"],
    )


def topic(place: int, seed: int, number: int) -> Example:
    """Return example `number` of a topic; the topic's words occur in no other topic."""
    draw = random.Random(f"{seed} {place}")
    words, body = [functions.word(draw) for _ in range(4)], draw.choice(BODIES)
    constant = 1 + (draw.randrange(9) + 3 * number) % 9
    prompt = f"f(xs, n): the {words[0]} {words[1]} of {words[2]} by {words[3]} {constant}"
    return _example(prompt, f"def f(xs, n):\n    # {words[0]} {words[1]}\n    return {body.format(c=constant)}")


def _with_defect(kind: str | None, place: int, clean: Sequence[Example], seed: int) -> Example:
    example, draw = clean[place], random.Random(f"{seed} {place} {kind}")
    match kind:
        case "wrong":
            other = clean[(place + draw.randrange(1, len(clean))) % len(clean)]
            return _renamed(replace(example, messages=[*example.prompt, other.messages[-1]], tests=None))
        case "long":
            parts = [example, *draw.sample(clean, AT_ONCE - 1)]
            return _example("; then ".join(p.prompt[0].content for p in parts), "\n\n".join(map(_code, parts)))
        case "alone":
            return topic(place, seed, 0)
        case _:
            return example


def _code(example: Example) -> str:
    return example.response.removeprefix("```python\n").removesuffix("\n```")


def _example(prompt: str, code: str) -> Example:
    messages = [Message("user", prompt), Message("assistant", f"```python\n{code}\n```")]
    return Example(
        identify(messages), messages, "function", "synthetic", prompt, "train", "benchmarks/planted.py", "Apache-2.0"
    )


def _renamed(example: Example) -> Example:
    return replace(example, id=identify(example.messages))
