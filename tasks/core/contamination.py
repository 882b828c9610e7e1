"""Training texts that hold too much of an evaluation text, or are held by one."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from pydantic import Field

from tasks.core.ngrams import ngrams, words
from tasks.core.params import Params
from tasks.core.records import Example

FEWEST = 3
"""One or two common runs are chance, whatever share of a text they are."""


class Contamination(Params):
    """When a training text holds too much of an evaluation text."""

    ngram: int = Field(default=13, ge=4)
    """Words in a row that must agree; half as many for texts shorter than twice this."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of the shorter text's n-grams that the other must hold."""
    common: int = Field(default=10, ge=1)
    """An n-gram that more than so many training texts hold is a phrase, not a leak."""


def leaks(training: Sequence[Example], evaluation: Sequence[Example], params: Contamination) -> dict[int, int]:
    """Each training example whose prompt or response overlaps that of an evaluation example → that example."""
    found = overlaps(sides(training), sides(evaluation), params)
    return {here % len(training): there % len(evaluation) for here, there in found.items()}


def sides(examples: Sequence[Example]) -> list[str]:
    """All prompts, then all responses."""
    prompts = [comparable(example, prompt_of(example)) for example in examples]
    return prompts + [comparable(example, example.response) for example in examples]


def comparable(example: Example, text: str) -> str:
    """The text that likeness is judged by: none for generated tasks, which share a wording and differ in a number."""
    return "" if example.tests is not None and example.tests.kind == "answer" else text


def prompt_of(example: Example) -> str:
    """All that is said before the response."""
    return "\n".join(message.content for message in example.prompt)


def overlaps(training: Sequence[str], evaluation: Sequence[str], params: Contamination) -> dict[int, int]:
    """Position of each contaminated training text → the evaluation text with which it shares most.

    Two texts overlap where one holds at least `share` of the n-grams of the shorter one. Runs are of `ngram` words, and of
    half as many where one of the texts is short. A run that many training texts hold is a phrase and counts for nothing.
    """
    found: dict[int, tuple[float, int]] = {}
    sizes = (params.ngram, params.ngram // 2)
    training_words = [words(text) for text in training]
    evaluation_words = [words(text) for text in evaluation]
    short = 2 * params.ngram
    for size in sizes:
        pairs = _shared(training_words, evaluation_words, size, params)
        for (here, there), share in pairs.items():
            is_short = min(len(training_words[here]), len(evaluation_words[there])) < short
            if is_short == (size == sizes[1]) and share >= params.share:
                found[here] = max(found.get(here, (0.0, 0)), (share, there))
    return {here: found[here][1] for here in sorted(found)}


def _shared(
    training: Sequence[list[str]], evaluation: Sequence[list[str]], size: int, params: Contamination
) -> dict[tuple[int, int], float]:
    """Each pair that has an n-gram in common → the part of the shorter one's n-grams that are."""
    holders: defaultdict[str, list[int]] = defaultdict(list)
    lengths = []
    for there, parts in enumerate(evaluation):
        grams = ngrams(parts, size)
        lengths.append(len(grams))
        for gram in grams:
            holders[gram].append(there)

    hits: list[set[str]] = []
    own_lengths = []
    for parts in training:
        grams = ngrams(parts, size)
        own_lengths.append(len(grams))
        hits.append({gram for gram in grams if gram in holders})

    phrases = {
        gram for gram, count in Counter(gram for grams in hits for gram in grams).items() if count > params.common
    }
    for gram in phrases:
        for there in holders[gram]:
            lengths[there] -= 1
    pairs: Counter[tuple[int, int]] = Counter()
    for here, grams in enumerate(hits):
        own_lengths[here] -= len(grams & phrases)
        pairs.update((here, there) for gram in grams - phrases for there in holders[gram])
    return {
        (here, there): count / min(own_lengths[here], lengths[there])
        for (here, there), count in pairs.items()
        if count >= FEWEST
    }
