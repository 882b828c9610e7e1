"""Every measured item with the results of all models side by side: which models gained or lost it, and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from tasks.core.records import Example, Result
from tasks.stages.report.data.comparison import LOSSES


@dataclass(frozen=True)
class Item:
    """One item of one measure."""

    measure: str
    item: str
    results: Sequence[Result | None]
    """One result for each model, the reference first; None for a model that was not measured on the item."""
    example: Example | None
    """The held-out example of the item; None if it has none."""
    text_source: str = ""
    """The source of the corpus text of the item; empty if it is no text."""

    @property
    def facts(self) -> Result:
        """Return any result, for the facts that do not depend on the model: group, domain, tier."""
        return next(result for result in self.results if result)

    @property
    def source(self) -> str:
        """Return the source of the item; for an item that is not from the workspace's data, its group."""
        return self.example.source if self.example else self.text_source or self.facts.group

    @property
    def link(self) -> str:
        """Return the item's link target on the page, which is the same in every report."""
        return f"{self.measure}/{self.item}"

    @cached_property
    def values(self) -> list[float | None]:
        """Return, for each model, the loss in nats per token or the score of its answer; None if there is none or it is not finite."""
        return [None if result is None else _value(result) for result in self.results]

    def change(self, model: int) -> float | None:
        """Return the gain of a model over the reference, negative if it is worse; None if one of the two has no value."""
        before, after = self.values[0], self.values[model]
        if before is None or after is None:
            return None
        return before - after if self.measure in LOSSES else after - before


def _value(result: Result) -> float | None:
    value = result.value / max(result.tokens, 1) if result.is_loss else result.value
    return round(value, 4) if math.isfinite(value) else None


def list_items(
    results: Mapping[str, Sequence[Result]],
    examples: Mapping[str, Example],
    leading: str,
    text_sources: Mapping[str, str] = MappingProxyType({}),
) -> list[Item]:
    """Return the items of all models: answers that the leading model lost, gained and failed, followed by the other answers and the losses.

    Within a kind, items are sorted by their ids, which are hashes. Losses begin with the one that rose most.
    """
    names = list(results)
    by_key = [{(result.measure, result.item): result for result in rows} for rows in results.values()]
    keys = dict.fromkeys(key for side in by_key for key in side)
    items = [
        Item(
            measure,
            item,
            [side.get((measure, item)) for side in by_key],
            examples.get(item),
            text_sources.get(item, ""),
        )
        for measure, item in keys
        if "sampled" not in measure  # not an answer, but a probability over several answers
    ]
    at = names.index(leading)
    return sorted(items, key=lambda item: _rank(item, at))


def _rank(item: Item, leading: int) -> tuple[int, float, str, str]:
    """Return the sort key of an item."""
    change = item.change(leading)
    if item.measure in LOSSES:
        return 5, change or 0.0, item.measure, item.item
    if change:
        return int(change > 0), 0.0, item.item, item.measure
    after = item.values[leading]
    return (4 if after is None else 3 if after == 1 else 2), 0.0, item.item, item.measure
