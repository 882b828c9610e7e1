"""Speed of marking differences, compared with difflib: `python benchmarks/marks.py`, after `ratchet use workstation && ratchet run ingest`.

Each program of the training examples is compared with a copy in which one operator is changed: single programs (short), and forty
joined (long). Sides take turns. Printed: ratios of CPU time to difflib over all characters, over token ids, and over lines first and
then the characters of changed lines, as it is done here; the share of marking in the time to make a fault pair before its tests
(parsing, marking, encoding both sides); and the speed-up of tokenizing the same texts in one batch.
"""

import argparse
import difflib
import operator
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks.core.records import Example, Message
from tasks.core.text.programs import program
from tasks.engine.encode import encoder
from tasks.io import tables
from tasks.io.weights import checkpoints
from tasks.methods.objectives.fait.encode import encode_example
from tasks.methods.objectives.fait.marks import compare
from tasks.stages.faults.config import FaultsConfig
from tasks.stages.faults.pair import Candidate, pair

EXAMPLES, BASE = Path("data/rounds/r0/examples.parquet"), Path("models/base")
JOINED, PAIRS, LONG_PAIRS, ROUNDS = 40, 200, 3, 3
CHANGES = {"<": "<=", ">": ">=", "==": "!=", "+": "-", "-": "+", "0": "1", "1": "0", "and": "or", "return": "yield"}

Pair = tuple[str, str]


def main() -> None:
    """Print a line for short and for long texts."""
    solutions = [program(row.response) for row in tables.read(EXAMPLES, Example)]
    joined = ["\n".join(solutions[start : start + JOINED]) for start in range(0, len(solutions), JOINED)]
    tokenizer = checkpoints.load_tokenizer(BASE)
    report("short", [(broken(text), text) for text in solutions[:PAIRS]], tokenizer)
    report("long", [(broken(text, len(text) // 2), text) for text in joined[:LONG_PAIRS]], tokenizer)


def report(name: str, pairs: list[Pair], tokenizer: Any) -> None:
    """Print one line: medians over rounds."""
    texts = [good for _, good in pairs]
    ids = [[tokenizer(text)["input_ids"] for text in each] for each in pairs]
    candidates = [Candidate(answered(good), bad, "mutation") for bad, good in pairs]
    config = FaultsConfig(max_chars=max(map(len, texts)) + 1)
    tools = encoder(tokenizer)

    def encoded(example: Example, fault_pair: Any) -> Any:
        return encode_example(example, [fault_pair] if fault_pair else [], tools)

    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: [compare(*each) for each in pairs],
        "characters": lambda: [difflib.SequenceMatcher(None, *each, autojunk=False).get_opcodes() for each in pairs],
        "token ids": lambda: [difflib.SequenceMatcher(None, *each, autojunk=False).get_opcodes() for each in ids],
        "lines first": lambda: [lines_first(*each) for each in pairs],
        "pairs": lambda: [pair(candidate, config, encoded) for candidate in candidates],
        "batch": lambda: tokenizer(texts, return_offsets_mapping=True),
        "singly": lambda: [tokenizer(text, return_offsets_mapping=True) for text in texts],
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(ROUNDS):
        for side in sides if number % 2 == 0 else reversed(sides):
            times[side].append(seconds(sides[side]))
    ratio = {side: statistics.median(map(operator.truediv, times[side], times["ours"])) for side in sides}
    print(
        f"{name}: {len(pairs)} pairs of {statistics.fmean(map(len, texts)):,.0f} characters on average: {ratio['characters']:.0f} × "
        f"difflib over characters, {ratio['token ids']:.0f} × over token ids, {ratio['lines first']:.0f} × over lines first; "
        f"{1 / ratio['pairs']:.3f} of making pairs; a batch is tokenized {ratio['singly'] / ratio['batch']:.2f} × as fast as its texts singly"
    )


def answered(code: str) -> Example:
    """An example whose answer is a program."""
    messages = [Message("user", "Write it."), Message("assistant", f"```python\n{code}\n```")]
    return Example("e", messages, "function", "code", "g", "train", "s", "MIT")


def broken(text: str, start: int = 0) -> str:
    """The text with the first operator after `start` changed."""
    for match in re.finditer("|".join(map(re.escape, CHANGES)), text):
        if match.start() >= start:
            return text[: match.start()] + CHANGES[match[0]] + text[match.end() :]
    return text + "\n"


def lines_first(bad: str, good: str) -> list[Sequence[tuple[str, int, int, int, int]]]:
    """Return the edit scripts of characters within changed lines."""
    before, after = bad.splitlines(keepends=True), good.splitlines(keepends=True)
    lines = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [
        difflib.SequenceMatcher(None, "".join(before[a:b]), "".join(after[c:d]), autojunk=False).get_opcodes()
        for tag, a, b, c, d in lines
        if tag != "equal"
    ]


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of `work`."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
