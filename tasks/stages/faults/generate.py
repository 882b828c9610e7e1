"""Generate wrong answers by a model: its own attempts at an example, or variants made wrong on purpose."""

import random
from collections import defaultdict
from collections.abc import Sequence

from tasks.core.records import Example, Message
from tasks.core.text.programs import locate_judged, program
from tasks.core.text.wording import field
from tasks.core.text.writing import Answer, Write
from tasks.stages.faults.config import Drawn
from tasks.stages.faults.pair import Candidate

# Our wording; the paper's was not available. The example's text is in the user's turn only, in fields that it cannot close.
ASK = (
    "Below is a correct Python program. Write it again with one small mistake in it, as a programmer might make it by oversight: "
    "it must still look right, and give wrong results for some inputs. Change as few characters as you can, and neither names nor "
    "comments nor layout. Answer with the whole program in one code block and nothing else."
)


def attempts(source: Drawn, examples: Sequence[Example], seed: int, write: Write) -> dict[str, list[Candidate]]:
    """Return the model's own answers to the examples; correct ones are refused by their tests later."""
    return _candidates(examples, source.samples, [example.prompt for example in examples], seed, write, "sampled")


def on_purpose(source: Drawn, examples: Sequence[Example], seed: int, write: Write) -> dict[str, list[Candidate]]:
    """Return variants of the examples' programs that a teacher was asked to make wrong."""
    prompts = [[Message("user", teacher_prompt(example))] for example in examples]
    return _candidates(examples, source.samples, prompts, seed, write, "teacher")


def teacher_prompt(example: Example) -> str:
    """Return the prompt that asks a teacher for a wrong variant of an example's program."""
    fields = field("task", example.prompt[-1].content), field("program", program(example.response))
    return "\n\n".join([ASK, *fields])


def chosen(names: Sequence[str], count: int, seed: int) -> set[str]:
    """Return at most `count` of these names of examples, drawn by the seed."""
    return set(random.Random(seed).sample(names, min(count, len(names))))


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
    candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
    for (example, _), answer in zip(rows, write([prompt for _, prompt in rows], keys), strict=True):
        candidates[example.id].append(_candidate(example, answer, source))
    return candidates


def _candidate(example: Example, answer: Answer, source: str) -> Candidate:
    """Return an answer as a candidate. A program whose code block is closed is complete, even if the text after it was cut off."""
    start, end = locate_judged(example, answer.text)
    is_cut_off = not answer.ended and end >= len(answer.text.rstrip())
    return Candidate(example, answer.text[start:end], source, refused=answer.refused, is_cut_off=is_cut_off)
