"""Training texts that hold too much of an evaluation text, or are held by one."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tasks.stages.ingest import texts
from tasks.stages.ingest.params import Contamination

FEWEST = 3
"""One or two common runs are chance, whatever share of a text they are."""


def overlaps(training: Sequence[str], evaluation: Sequence[str], params: Contamination) -> dict[int, int]:
    """Position of each contaminated training text → the evaluation text with which it shares most.

    Two texts overlap where one holds at least `share` of the n-grams of the shorter one. Runs are of `ngram` words, and of
    half as many where one of the texts is short. A run that many training texts hold is a phrase and counts for nothing.
    """
    found: dict[int, tuple[float, int]] = {}
    sizes = (params.ngram, params.ngram // 2)
    training_words = [texts.words(text) for text in training]
    evaluation_words = [texts.words(text) for text in evaluation]
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
    for there, words in enumerate(evaluation):
        grams = texts.ngrams(words, size)
        lengths.append(len(grams))
        for gram in grams:
            holders[gram].append(there)

    hits: list[set[str]] = []
    own_lengths = []
    for words in training:
        grams = texts.ngrams(words, size)
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
