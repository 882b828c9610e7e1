"""Pack the items for the page: a table of all, and their texts in blocks that are unpacked when one of them is opened.

A page has a limited size. Texts that do not fit stay in `data/results/` and `data/ingested/`, and the page says how many.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tasks.core.records import Result
from tasks.stages.report.data.comparison import HUMAN_EVAL, LOSSES
from tasks.stages.report.data.items import Item

BLOCK = 128
"""Items whose texts are packed together."""
TABLE_BYTES, TEXT_BYTES = 1_900_000, 1_200_000
"""Of the page, at most for the table and for the texts."""
Show = Callable[[str], str]
"""Makes the text of data or of a model safe to show."""


@dataclass(frozen=True)
class PackedItems:
    """The items as the page holds them."""

    table: str
    blocks: Sequence[str]
    shown: int
    """Items in the table …"""
    with_texts: int
    """… those of them whose texts are on the page …"""
    total: int
    """… and all that were measured."""


def pack_items(items: Sequence[Item], models: Sequence[str], show: Show) -> PackedItems:
    """Pack as many items as fit, from the first on."""
    rows = list(items)
    while len(table := packed(_table(rows, models, show))) > TABLE_BYTES:
        rows = rows[: len(rows) // 2]
    blocks = list(_blocks(rows, show))
    return PackedItems(table, blocks, len(rows), min(len(rows), BLOCK * len(blocks)), len(items))


def packed(value: object) -> str:
    """Return a value as compressed JSON in base64, in which no character of the data can end the element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode("ascii")


def _table(rows: Sequence[Item], models: Sequence[str], show: Show) -> dict[str, Any]:
    """Return the items by column; words that repeat are numbers into the lists of `words`."""
    words: dict[str, int] = {}

    @cache
    def word(text: str) -> int:
        return words.setdefault(show(text), len(words))

    columns = {
        "item": [row.item for row in rows],
        "measure": [word(row.measure) for row in rows],
        "source": [word(row.source) for row in rows],
        "domain": [word(row.facts.domain or (row.example.domain if row.example else "")) for row in rows],
        "tier": [word(row.facts.tier or "") for row in rows],
        "values": [[row.value(model) for row in rows] for model in range(len(models))],
        "outcomes": [[word(_outcome(row.results[model])) for row in rows] for model in range(len(models))],
    }
    measures = {row.measure: row for row in rows}
    titles = {show(name): LOSSES.get(name, name.replace(HUMAN_EVAL, "HumanEval ")) for name in measures}
    kinds = {show(name): _kind(row.facts) for name, row in measures.items()}
    return {"models": list(models), "words": list(words), "titles": titles, "kinds": kinds, "block": BLOCK} | columns


def _kind(result: Result) -> str:
    return "loss" if result.is_loss else "answer" if result.is_binary else "score"


def _outcome(result: Result | None) -> str:
    return "not measured" if result is None else result.outcome


def _blocks(rows: Sequence[Item], show: Show) -> Iterator[str]:
    """Yield the texts of the items, so many to a block, until the page is full."""
    room = TEXT_BYTES
    for start in range(0, len(rows), BLOCK):
        block = packed([_texts(row, show) for row in rows[start : start + BLOCK]])
        room -= len(block)
        if room < 0:
            return
        yield block


def _texts(item: Item, show: Show) -> dict[str, Any]:
    shown: dict[str, Any] = {"answers": [_answer(result, show) for result in item.results]}
    if item.example:
        shown["task"] = "\n\n".join(f"{message.role}: {show(message.content)}" for message in item.example.prompt)
        shown["reference"] = show(item.example.response)
    return shown


def _answer(result: Result | None, show: Show) -> dict[str, Any] | None:
    if result is None or result.is_loss:
        return None
    checked = {"parsed": show(result.parsed), "expected": show(result.expected)} if result.expected else {}
    return {"output": show(result.output), **checked, **({"inside": True} if result.inside else {})}
