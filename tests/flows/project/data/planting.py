"""Write the tables of a workspace: thirty examples in three splits, documents, refusals, a turn of the loop, results."""

import json
from dataclasses import replace
from pathlib import Path

from tasks.core.records import (
    Document,
    Example,
    Lineage,
    Message,
    Refusal,
    Result,
    SensitiveText,
    Signals,
    Tests,
    ToolCall,
    content_id,
)
from tasks.io import tables

SPLITS = {"train": 20, "valid": 4, "test": 4, "gate": 2}
HOSTILE = "\x1b[31mred\x1b[0m \x9b5m \u202eevil \x07"
"""Control characters that must not reach a terminal: colours, a bell, the CSI of C1, a change of direction."""


def examples() -> list[Example]:
    """Return the examples. The first has `HOSTILE` characters and a tool call."""
    splits = [split for split, number in SPLITS.items() for _ in range(number)]
    made = [
        Example(
            content_id("example", str(number)),
            [Message("user", f"What is {number} plus one?"), Message("assistant", f"It is {number + 1}.")],
            "chat",
            "sums" if number % 2 else "numbers",
            f"group {number // 2}",
            split,
            f"file sums.jsonl: line {number + 1}",
            "CC0-1.0",
        )
        for number, split in enumerate(splits)
    ]
    calls = [ToolCall("calculate", '{"expression": "0 + 1"}')]
    turns = [
        Message("user", f"Compute {HOSTILE}"),
        Message("assistant", "", calls),
        Message("tool", "1"),
        Message("assistant", "One."),
    ]
    made[0] = replace(made[0], messages=turns, tests=Tests("script", "assert one() == 1", "one"))
    return made


def refusals() -> list[Refusal]:
    """Return three refused records, one of which is like the second example."""
    second = "file sums.jsonl: line 2"
    return [
        Refusal("file sums.jsonl", "line 31", "not JSON", "Expecting value", "{'a"),
        Refusal(
            "file sums.jsonl",
            "file sums.jsonl: line 32",
            "near-duplicate",
            f"too like {second} (train), similarity 0.93 of the responses",
            "What is 1 plus one",
        ),
        Refusal(
            "file sums.jsonl",
            "file sums.jsonl: line 33",
            "near-duplicate",
            f"too like {second}2 (train), by embedding",
            "What is 21 plus one",
        ),
    ]


def plant(root: Path) -> list[Example]:
    """Write all tables below `root` and return the examples."""
    made = examples()
    write_examples(root, made)
    write_turn(root, made)
    tested = [example for example in made if example.split == "test"]
    rows = [
        Result("domain", example.id, example.group, None, 6.0, 3, 9, "", "", domain=example.domain)
        for example in tested
    ]
    rows.append(Result("pass@1", tested[0].id, tested[0].group, None, 1.0, 1, 1, "passed", "It is 25."))
    tables.write(root / "data/results/rounds/r0.parquet", rows, Result)
    return made


def write_examples(root: Path, made: list[Example]) -> None:
    """Write the outputs of stage `ingest`."""
    ingested = root / "data/ingested"
    for split in SPLITS:
        path = root / "data/rounds/r0/examples.parquet" if split == "train" else ingested / f"{split}.parquet"
        tables.write(path, [example for example in made if example.split == split], Example)
    texts = [Document("d1d1d1d1d1d1d1d1", "A text about sums.", "domain", "a", "train", "sums.md", "MIT")]
    tables.write(ingested / "train_documents.parquet", texts, Document)
    tables.write(ingested / "benchmark.parquet", [], Example)
    tables.write(ingested / "quarantine.parquet", refusals(), Refusal)
    place = SensitiveText(
        "file sums.jsonl", made[2].source, "user", "personal", "e-mail-address", "an… (19 characters)", "reported"
    )
    tables.write(ingested / "sensitive.parquet", [place], SensitiveText)
    balance = {"read": len(made) + 3, "kept": len(made), "merged": 2, "refused": {"not JSON": 1}}
    (ingested / "report.json").write_text(json.dumps({"sources": {"file sums.jsonl": balance}}))


def write_turn(root: Path, made: list[Example]) -> None:
    """Write the outputs of the turn to round `r1`: the second example is rewritten, and a proposal for the third is refused."""
    second, third = made[1], made[2]
    better = replace(
        second.with_response("It is 2, for 1 + 1 = 2."), id="ffff000011112222", parents=[second.id], round=1
    )
    folder = root / "data/rounds/r1"
    trained = [example for example in made if example.split == "train" and example.id != second.id]
    tables.write(folder / "examples.parquet", [*trained, better], Example)
    lineage = [
        Lineage(better.id, [second.id], "improve", "rules", "", True, "", "", better.response),
        Lineage("eeee000011112222", [third.id], "simplify", "rules", "", False, "too alike", "0.99", "It is 3"),
    ]
    tables.write(folder / "lineage.parquet", lineage, Lineage)
    signals = Signals(second.id, 2.5, 1.25, 5, 0.8, [], *[None] * 6, None, ["hard"], ["hard"], "")
    tables.write(folder / "signals.parquet", [signals], Signals)
