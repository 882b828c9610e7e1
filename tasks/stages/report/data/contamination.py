"""Report whether training data overlap evaluation data, as found by stage `ingest`."""

from collections.abc import Mapping
from typing import Any

LEAK = "leak"
"""The reason that `ingest` records for a refused record that overlaps an evaluation item."""


def sentence(ingested: Mapping[str, Any]) -> str:
    """Return a sentence about the records left out of training because they overlap; empty if nothing is held out."""
    examples = sum(row["examples"] for split, row in ingested["splits"].items() if split != "train")
    texts = sum(row["documents"] for name, row in ingested["corpora"].items() if not name.endswith(" train"))
    counts = {"example": examples, "text": texts}
    held_out = " and ".join(_counted(number, word) for word, number in counts.items() if number)
    if not held_out:
        return ""
    measured = f"what is held out for validation, test and gate ({held_out})"
    if leaks := ingested["dropped"].get(LEAK, 0):
        return f"{_counted(leaks, 'record')} overlapped {measured}, or a benchmark, and did not train."
    return f"No training text overlaps {measured}, by the limits of `ingest.contamination`."


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
