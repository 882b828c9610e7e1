"""Detection of training texts that overlap an evaluation text, by shared n-grams."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from pydantic import Field

from tasks.core.config import Config
from tasks.core.records import Example
from tasks.core.text.ngrams import ngrams, words

FEWEST = 3
"""One or two common runs are chance, whatever share of a text they are."""


class Contamination(Config):
    """Limits from which on a training text counts as contaminated by an evaluation text."""

    ngram: int = Field(default=13, ge=4)
    """Words in a row that must agree; half as many for texts shorter than twice this."""
    share: float = Field(default=0.5, gt=0, le=1)
    """The share of the shorter text's n-grams that the other must hold."""
    common: int = Field(default=10, ge=1)
    """An n-gram that more than so many training texts hold is a phrase, not a leak."""


def leaks(training: Sequence[Example], evaluation: Sequence[Example], params: Contamination) -> dict[int, int]:
    """Map the position of each training example that overlaps an evaluation example, by prompt or response, to the latter's."""
    pairs = overlaps(sides(training), sides(evaluation), params)
    return {train_index % len(training): eval_index % len(evaluation) for train_index, eval_index in pairs.items()}


def sides(examples: Sequence[Example]) -> list[str]:
    """Return all prompts, then all responses."""
    prompts = [comparable(example, prompt_of(example)) for example in examples]
    return prompts + [comparable(example, example.response) for example in examples]


def comparable(example: Example, text: str) -> str:
    """Return the text to compare: empty for generated tasks, which share a wording and differ in a number."""
    return "" if example.tests is not None and example.tests.kind == "answer" else text


def prompt_of(example: Example) -> str:
    """Return all messages before the response as one text: earlier answers, tool calls and their results too."""
    return "\n".join(text for message in example.prompt for text in message.texts)


def overlaps(training: Sequence[str], evaluation: Sequence[str], params: Contamination) -> dict[int, int]:
    """Map the position of each contaminated training text to that of the evaluation text it shares most with.

    Two texts overlap where one holds at least `share` of the n-grams of the shorter one. Runs are of `ngram` words, and of
    half as many where one of the texts is short. A run that many training texts hold is a phrase and counts for nothing.
    """
    best: dict[int, tuple[float, int]] = {}
    sizes = (params.ngram, params.ngram // 2)
    training_words = [words(text) for text in training]
    evaluation_words = [words(text) for text in evaluation]
    short = 2 * params.ngram
    for size in sizes:
        pairs = _shared(training_words, evaluation_words, size, params)
        for (train_index, eval_index), share in pairs.items():
            is_short = min(len(training_words[train_index]), len(evaluation_words[eval_index])) < short
            if is_short == (size == sizes[1]) and share >= params.share:
                best[train_index] = max(best.get(train_index, (0.0, 0)), (share, eval_index))
    return {train_index: best[train_index][1] for train_index in sorted(best)}


def _shared(
    training: Sequence[list[str]], evaluation: Sequence[list[str]], size: int, params: Contamination
) -> dict[tuple[int, int], float]:
    """Map each pair with a common n-gram to the share of the shorter text's n-grams that are common."""
    holders: defaultdict[str, list[int]] = defaultdict(list)
    evaluation_lengths = []
    for eval_index, parts in enumerate(evaluation):
        grams = ngrams(parts, size)
        evaluation_lengths.append(len(grams))
        for gram in grams:
            holders[gram].append(eval_index)

    hits: list[set[str]] = []
    training_lengths = []
    for parts in training:
        grams = ngrams(parts, size)
        training_lengths.append(len(grams))
        hits.append({gram for gram in grams if gram in holders})

    phrases = {
        gram for gram, count in Counter(gram for grams in hits for gram in grams).items() if count > params.common
    }
    for gram in phrases:
        for eval_index in holders[gram]:
            evaluation_lengths[eval_index] -= 1
    pairs: Counter[tuple[int, int]] = Counter()
    for train_index, grams in enumerate(hits):
        training_lengths[train_index] -= len(grams & phrases)
        pairs.update((train_index, eval_index) for gram in grams - phrases for eval_index in holders[gram])
    return {
        (train_index, eval_index): count / min(training_lengths[train_index], evaluation_lengths[eval_index])
        for (train_index, eval_index), count in pairs.items()
        if count >= FEWEST
    }
