"""Wrong programs that a model writes: its own attempts at an example, or on purpose."""

import random
from collections import defaultdict
from collections.abc import Sequence

from tasks.core.programs import program
from tasks.core.records import Example, Message
from tasks.core.writing import Write
from tasks.stages.faults.pair import Candidate
from tasks.stages.faults.params import Drawn

# Our wording; the paper's was not seen. What the row holds stands in the user's turn alone, between marks that it cannot close.
ASK = (
    "Below is a correct Python program. Write it again with one small mistake in it, as a programmer might make it by oversight: "
    "it must still look right, and give wrong results for some inputs. Change as few characters as you can, and neither names nor "
    "comments nor layout. Answer with the whole program in one code block and nothing else.\n\n<task>\n{task}\n</task>\n\n"
    "<program>\n{code}\n</program>"
)


def attempts(source: Drawn, examples: Sequence[Example], seed: int, write: Write) -> dict[str, list[Candidate]]:
    """What the model answers to some of the examples; those of its programs that are right are refused by their tests later."""
    asked = _chosen(examples, source.max_examples, seed)
    return _candidates(asked, source.samples, [example.prompt for example in asked], seed, write, "sampled")


def on_purpose(source: Drawn, examples: Sequence[Example], seed: int, write: Write) -> dict[str, list[Candidate]]:
    """Variants of some examples' programs that a teacher was asked to make wrong."""
    asked = _chosen(examples, source.max_examples, seed)
    prompts = [[Message("user", ask(example))] for example in asked]
    return _candidates(asked, source.samples, prompts, seed, write, "teacher")


def ask(example: Example) -> str:
    """What a teacher is asked of an example."""
    fields = {"task": example.prompt[-1].content, "code": program(example.response)}
    return ASK.format(**{name: text.replace("</", "< /") for name, text in fields.items()})


def _chosen(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Some of the examples, in their order."""
    places = range(len(examples))
    chosen = random.Random(seed).sample(places, min(count, len(examples)))
    return [examples[place] for place in sorted(chosen)]


def _candidates(
    examples: Sequence[Example],
    samples: int,
    prompts: Sequence[Sequence[Message]],
    seed: int,
    write: Write,
    source: str,
) -> dict[str, list[Candidate]]:
    rows = [(example, prompt) for example, prompt in zip(examples, prompts, strict=True) for _ in range(samples)]
    keys = [f"{seed} {example.id} {number % samples}" for number, (example, _) in enumerate(rows)]
    found: defaultdict[str, list[Candidate]] = defaultdict(list)
    for (example, _), answer in zip(rows, write([prompt for _, prompt in rows], keys), strict=True):
        found[example.id].append(Candidate(example, program(answer.text), source, refused=answer.refused))
    return found
