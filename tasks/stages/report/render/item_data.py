"""Pack the items for the page: a table of all, and their texts in blocks that are unpacked when one of them is opened.

A page has a limited size. Texts that do not fit stay in `data/results/` and `data/ingested/`, and the page says how many.
"""

import base64
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.records import Result
from tasks.stages.report.data.comparison import HUMAN_EVAL, LOSSES
from tasks.stages.report.data.items import Item

BLOCK = 128
"""Items whose texts are packed together."""
TABLE_BYTES, TEXT_BYTES = 1_900_000, 1_200_000
"""Of the page, at most for the table and for the texts."""
Show = Callable[[Sequence[str]], list[str]]
"""Makes texts of data or of a model safe to show, many at once."""
LEVEL = 6
"""Of zlib; its highest takes three times as long, and leaves a page as large."""


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
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), LEVEL)).decode("ascii")


def _table(rows: Sequence[Item], models: Sequence[str], show: Show) -> dict[str, Any]:
    """Return the items by column. Words that repeat are numbers into `words`; ids and sources, of which an item has one in every measure,
    stand in `items` and `sources`, and `item` has their numbers."""
    items = {key: number for number, key in enumerate(dict.fromkeys((row.item, row.source) for row in rows))}
    of_rows = {
        "measure": [row.measure for row in rows],
        "domain": [row.facts.domain or (row.example.domain if row.example else "") for row in rows],
        "tier": [row.facts.tier or "" for row in rows],
    }
    outcomes = [[_outcome(row.results[model]) for row in rows] for model in range(len(models))]
    texts = list(dict.fromkeys(itertools.chain(*of_rows.values(), *outcomes)))
    shown = dict(zip(texts, show(texts), strict=True))
    words = {text: number for number, text in enumerate(dict.fromkeys(shown.values()))}
    numbers = {text: words[shown[text]] for text in texts}
    measures = {row.measure: row for row in rows}
    return {
        "models": list(models),
        "words": list(words),
        "titles": {shown[name]: LOSSES.get(name, name.replace(HUMAN_EVAL, "HumanEval ")) for name in measures},
        "kinds": {shown[name]: _kind(row.facts) for name, row in measures.items()},
        "block": BLOCK,
        "items": [item for item, _ in items],
        "sources": show([source for _, source in items]),
        "item": [items[row.item, row.source] for row in rows],
        **{name: [numbers[text] for text in column] for name, column in of_rows.items()},
        "values": [[row.values[model] for row in rows] for model in range(len(models))],
        "outcomes": [[numbers[text] for text in column] for column in outcomes],
    }


def _kind(result: Result) -> str:
    return "loss" if result.is_loss else "answer" if result.is_binary else "score"


def _outcome(result: Result | None) -> str:
    return "not measured" if result is None else result.outcome


def _blocks(rows: Sequence[Item], show: Show) -> Iterator[str]:
    """Yield the texts of the items, so many to a block, until the page is full."""
    room = TEXT_BYTES
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        raw = list(dict.fromkeys(text for row in part for text in _raw_texts(row)))
        shown = dict(zip(raw, show(raw), strict=True))
        block = packed([_texts(row, shown) for row in part])
        room -= len(block)
        if room < 0:
            return
        yield block


def _raw_texts(item: Item) -> Iterator[str]:
    """Yield every text that is shown of an item, as it is."""
    for result in item.results:
        if result and not result.is_loss:
            yield from (result.output, result.parsed, result.expected)
    if item.example:
        yield from (message.content for message in item.example.messages)


def _texts(item: Item, shown: Mapping[str, str]) -> dict[str, Any]:
    texts: dict[str, Any] = {"answers": [_answer(result, shown) for result in item.results]}
    if item.example:
        texts["task"] = "\n\n".join(f"{message.role}: {shown[message.content]}" for message in item.example.prompt)
        texts["reference"] = shown[item.example.response]
    return texts


def _answer(result: Result | None, shown: Mapping[str, str]) -> dict[str, Any] | None:
    if result is None or result.is_loss:
        return None
    checked = {"parsed": shown[result.parsed], "expected": shown[result.expected]} if result.expected else {}
    return {"output": shown[result.output], **checked, **({"inside": True} if result.inside else {})}
