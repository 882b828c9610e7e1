"""How fast differences are marked, beside difflib: `python benchmarks/marks.py`, after `ratchet run ingest`.

Each solution of the training examples is held against itself with one operator changed: alone (short), and forty solutions joined
(long). They take turns; told are ratios of CPU time to difflib, once over all characters, and once doing what is done here: lines
first, then the characters of what changed. Also told is the time of marking in times that of tokenizing the same texts.
"""

import difflib
import operator
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks.core.marks import compare
from tasks.core.records import Example
from tasks.io import checkpoints, tables

EXAMPLES, BASE = Path("data/rounds/r0/examples.parquet"), Path("models/base")
JOINED, PAIRS, LONG_PAIRS, ROUNDS = 40, 200, 3, 3
CHANGES = {"<": "<=", ">": ">=", "==": "!=", "+": "-", "-": "+", "0": "1", "1": "0", "and": "or", "return": "yield"}

Pair = tuple[str, str]


def main() -> None:
    """Print a line for short and for long texts."""
    solutions = [row.messages[-1].content for row in tables.read(EXAMPLES, Example)]
    joined = ["\n".join(solutions[start : start + JOINED]) for start in range(0, len(solutions), JOINED)]
    tokenizer = checkpoints.load_tokenizer(BASE)
    report("short", [(broken(text), text) for text in solutions[:PAIRS]], tokenizer)
    report("long", [(broken(text, len(text) // 2), text) for text in joined[:LONG_PAIRS]], tokenizer)


def report(name: str, pairs: list[Pair], tokenizer: Any) -> None:
    """One line: medians over rounds."""
    texts = [good for _, good in pairs]
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: [compare(*pair) for pair in pairs],
        "characters": lambda: [difflib.SequenceMatcher(None, *pair, autojunk=False).get_opcodes() for pair in pairs],
        "lines first": lambda: [lines_first(*pair) for pair in pairs],
        "tokenizing": lambda: tokenizer(texts, return_offsets_mapping=True),
    }
    found: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else reversed(sides):
            found[side].append(seconds(sides[side]))
    ratio = {side: statistics.median(map(operator.truediv, found[side], found["ours"])) for side in sides}
    print(
        f"{name}: {len(pairs)} pairs of {statistics.fmean(map(len, texts)):,.0f} characters on average: {ratio['characters']:.0f} × "
        f"difflib over characters, {ratio['lines first']:.0f} × difflib over lines first; "
        f"{1 / ratio['tokenizing']:.3f} of tokenizing"
    )


def broken(text: str, start: int = 0) -> str:
    """The text with the first operator after `start` changed."""
    for found in re.finditer("|".join(map(re.escape, CHANGES)), text):
        if found.start() >= start:
            return text[: found.start()] + CHANGES[found[0]] + text[found.end() :]
    return text + "\n"


def lines_first(bad: str, good: str) -> list[Sequence[tuple[str, int, int, int, int]]]:
    """The scripts of lines, and of characters within what changed."""
    theirs, ours = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    lines = difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes()
    return [
        difflib.SequenceMatcher(None, "".join(theirs[a:b]), "".join(ours[c:d]), autojunk=False).get_opcodes()
        for tag, a, b, c, d in lines
        if tag != "equal"
    ]


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
