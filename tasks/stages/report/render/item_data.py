"""Pack the items for the page: one table, and their texts in blocks, which the page unpacks when an item is opened.

The size of a page is limited. Texts that do not fit are only in `data/results/` and `data/ingested/`, and the page says how many.
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
"""Number of items whose texts are packed together."""
TABLE_BYTES, TEXT_BYTES = 1_900_000, 1_200_000
"""Most bytes of the page for the table and for the texts."""
Show = Callable[[Sequence[str]], list[str]]
"""Makes a list of texts, from data or from a model, safe to show."""
LEVEL = 6
"""Compression level of zlib. The highest level takes three times as long and makes no smaller page."""


@dataclass(frozen=True)
class PackedItems:
    """The items in the form for the page."""

    table: str
    blocks: Sequence[str]
    shown: int
    """Number of items in the table."""
    with_texts: int
    """Number of items in the table whose texts are on the page."""
    total: int
    """Number of measured items."""


def pack_items(items: Sequence[Item], models: Sequence[str], show: Show) -> PackedItems:
    """Pack the first items, as many as fit."""
    rows = list(items)
    while len(table := packed(_table(rows, models, show))) > TABLE_BYTES:
        rows = rows[: len(rows) // 2]
    blocks = list(_blocks(rows, show))
    return PackedItems(table, blocks, len(rows), min(len(rows), BLOCK * len(blocks)), len(items))


def packed(value: object) -> str:
    """Return a value as compressed JSON in base64. No character of the data can end the element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), LEVEL)).decode("ascii")


def _table(rows: Sequence[Item], models: Sequence[str], show: Show) -> dict[str, Any]:
    """Return the items by column.

    Repeated words are stored as indices into `words`. Ids and sources, which are the same in all measures of an item, are in `items` and
    `sources`, and `item` holds the indices into them.
    """
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
    """Yield the texts of the items in blocks of `BLOCK` items, until the page is full."""
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
    """Yield every text of an item that the page shows, unchanged."""
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
