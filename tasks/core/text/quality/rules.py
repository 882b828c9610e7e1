"""Measure texts, and compare the measures with the limits.

The sources are those of `config.Quality`: Gopher (Rae et al. 2021) and C4 (Raffel et al. 2020). As there, words are separated by white space.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tasks.core.records import Unfit
from tasks.core.text.quality.config import Quality

ELLIPSES = ("...", "…")
BULLETS = ("•", "‣", "⁃", "◦", "-", "*", "–")
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
PARAGRAPH = re.compile(r"\n\s*\n")
BOILERPLATE = re.compile(
    "(?i)terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies|javascript|lorem ipsum"
)
"""C4's phrases."""
REASON = "quality"


def check(text: str, limits: Quality) -> Unfit | None:
    """Return the first rule that a text violates, with the measure and the limit; None if it violates none."""
    return next(_broken(text, limits), None)


def _broken(text: str, limits: Quality) -> Iterator[Unfit]:
    """Yield the rules that a text violates, the cheapest first."""
    words = text.split()
    lowest: dict[str, Callable[[], float]] = {
        "min_words": lambda: len(words),
        "min_word_length": lambda: mean_word_length(words),
        "alphabetic_words": lambda: alphabetic_word_share(words),
        "stop_words": lambda: count_stop_words(words),
    }
    highest: dict[str, Callable[[], float]] = {
        "max_words": lambda: len(words),
        "max_word_length": lambda: mean_word_length(words),
        "symbols_per_word": lambda: symbols_per_word(text, words),
        "bullet_lines": lambda: bullet_line_share(lines_of(text)),
        "ellipsis_lines": lambda: ellipsis_line_share(lines_of(text)),
        "boilerplate_lines": lambda: boilerplate_line_share(lines_of(text)),
        "duplicate_lines": lambda: duplicate_share(lines_of(text)),
        "duplicate_line_chars": lambda: duplicate_char_share(lines_of(text)),
        "duplicate_paragraphs": lambda: duplicate_share(paragraphs_of(text)),
        "duplicate_paragraph_chars": lambda: duplicate_char_share(paragraphs_of(text)),
    }
    for name, measure in lowest.items():
        if (limit := getattr(limits, name)) is not None and (value := measure()) < limit:
            yield Unfit(f"{REASON}: {name}", f"{value:.3g}, at least {limit:g} are required")
    for name, measure in highest.items():
        if (limit := getattr(limits, name)) is not None and (value := measure()) > limit:
            yield Unfit(f"{REASON}: {name}", f"{value:.3g}, at most {limit:g} are allowed")
    for length, limit in limits.top_ngrams.items():
        if (value := top_ngram_char_share(words, length)) > limit:
            yield Unfit(
                f"{REASON}: top_ngrams",
                f"{value:.3g} of the most frequent {length} words in a row, at most {limit:g} are allowed",
            )
    for length, limit in limits.duplicate_ngrams.items():
        if (value := duplicate_ngram_char_share(words, length)) > limit:
            yield Unfit(
                f"{REASON}: duplicate_ngrams",
                f"{value:.3g} of {length} words in a row that repeat, at most {limit:g} are allowed",
            )


def lines_of(text: str) -> list[str]:
    """Return the lines that are not blank, stripped."""
    return [line for line in map(str.strip, text.splitlines()) if line]


def paragraphs_of(text: str) -> list[str]:
    """Return the parts between blank lines, stripped."""
    return [part for part in map(str.strip, PARAGRAPH.split(text)) if part]


def mean_word_length(words: Sequence[str]) -> float:
    """Return the mean number of characters of a word; 0 without words (Gopher A.1.1)."""
    return sum(map(len, words)) / len(words) if words else 0.0


def symbols_per_word(text: str, words: Sequence[str]) -> float:
    """Return the number of `#` or of ellipses per word, whichever is larger, because the limit holds for each (Gopher A.1.1)."""
    if not words:
        return 0.0
    return max(text.count("#"), sum(map(text.count, ELLIPSES))) / len(words)


def bullet_line_share(lines: Sequence[str]) -> float:
    """Return the share of lines that begin with a bullet (Gopher A.1.1)."""
    return _share(lines, lambda line: line.startswith(BULLETS))


def ellipsis_line_share(lines: Sequence[str]) -> float:
    """Return the share of lines that end with an ellipsis (Gopher A.1.1)."""
    return _share(lines, lambda line: line.endswith(ELLIPSES))


def alphabetic_word_share(words: Sequence[str]) -> float:
    """Return the share of words with a letter of any script; 0 without words (Gopher A.1.1)."""
    return _share(words, lambda word: any(map(str.isalpha, word)))


def count_stop_words(words: Sequence[str]) -> int:
    """Return how many of the eight stop words occur (Gopher A.1.1)."""
    return len(STOP_WORDS.intersection(map(str.lower, words)))


def boilerplate_line_share(lines: Sequence[str]) -> float:
    """Return the share of lines with a phrase of a web page's notices (C4 2.2)."""
    return _share(lines, lambda line: BOILERPLATE.search(line) is not None)


def duplicate_share(parts: Sequence[str]) -> float:
    """Return the share of lines or paragraphs that are repetitions of earlier ones (Gopher table A1)."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def duplicate_char_share(parts: Sequence[str]) -> float:
    """Return the share of characters in lines or paragraphs that are repetitions of earlier ones (Gopher table A1)."""
    total = sum(map(len, parts))
    return 1 - sum(map(len, set(parts))) / total if total else 0.0


def top_ngram_char_share(words: Sequence[str], length: int) -> float:
    """Return the share of characters in the occurrences of the most frequent n-gram; 0 if none occurs twice (Gopher table A1).

    Of several equally frequent n-grams, the longest counts. Spaces do not count as characters.
    """
    counts = Counter(zip(*(words[start:] for start in range(length)), strict=False))
    times = max(counts.values(), default=0)
    if times < 2:
        return 0.0
    longest = max(sum(map(len, ngram)) for ngram, count in counts.items() if count == times)
    return min(1.0, longest * times / sum(map(len, words)))


def duplicate_ngram_char_share(words: Sequence[str], length: int) -> float:
    """Return the share of characters in n-grams that repeat an earlier one, each character counted once (Gopher table A1)."""
    seen: set[tuple[str, ...]] = set()
    repeated = bytearray(len(words))
    for start, ngram in enumerate(zip(*(words[offset:] for offset in range(length)), strict=False)):
        if ngram in seen:
            repeated[start : start + length] = b"\x01" * length
        seen.add(ngram)
    total = sum(map(len, words))
    return sum(len(word) for word, mark in zip(words, repeated, strict=True) if mark) / total if total else 0.0


def _share(parts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, parts)) / len(parts) if parts else 0.0
