"""Speed of the rules that screen texts: `python benchmarks/screening.py`. Rows and bytes for each second of CPU time.

20,000 texts of 150 random words (920 characters); every tenth holds an e-mail address and a phone number.
"""

import argparse
import random
import time
from collections.abc import Callable

from tasks.core.text.quality import language, rules
from tasks.core.text.quality.config import Quality
from tasks.core.text.sensitive import search

NUMBER = 20_000
PLAIN = Quality(
    min_words=50, max_words=100_000, min_word_length=3, max_word_length=10, symbols_per_word=0.1, bullet_lines=0.9,
    ellipsis_lines=0.3, alphabetic_words=0.8,
)  # fmt: skip
REPETITION = Quality(
    duplicate_lines=0.3, duplicate_line_chars=0.2, duplicate_paragraphs=0.3, duplicate_paragraph_chars=0.2,
    top_ngrams={2: 0.2, 3: 0.18, 4: 0.16}, duplicate_ngrams={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
)  # fmt: skip
ENGLISH = Quality(languages=("en",))


def texts() -> list[str]:
    """Return the texts, the same each time."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5_000)]
    made = [" ".join(draw.choices(words, k=150)) for _ in range(NUMBER)]
    return [
        text if number % 10 else f"{text} write to anna.schmidt{number}@web.de or +49 30 901820"
        for number, text in enumerate(made)
    ]


def measure(title: str, rows: list[str], work: Callable[[], object]) -> None:
    """Print the rows and megabytes that `work` does in a second of CPU time."""
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    size = sum(len(row.encode()) for row in rows) / 1e6
    print(f"{title:<36} {len(rows) / seconds:>10,.0f} rows/s {size / seconds:>8.1f} MB/s")


def main() -> None:
    """Measure each rule."""
    made = texts()
    suspects = search.suspects(made)
    some = made[:2_000]
    language.identify("to load its model")
    measure("hints of secrets and personal data", made, lambda: search.suspects(made))
    suspicious = [made[position] for position in suspects]
    measure(
        "patterns, where a hint is", suspicious,
        lambda: [search.spans(made[position], ("secret", "personal"), rules_of) for position, rules_of in suspects.items()],
    )  # fmt: skip
    measure("Gopher's rules without repetition", some, lambda: [rules.check(text, PLAIN) for text in some])
    measure("Gopher's rules of repetition", some, lambda: [rules.check(text, REPETITION) for text in some])
    measure("language", some, lambda: [language.check(text, ENGLISH) for text in some])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
