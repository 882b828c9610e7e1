"""Every item that was measured, with the results of all models side by side: what each won, lost, and why."""

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
    """One for each model, the reference first; None of a model that was not measured on it."""
    example: Example | None
    """The held-out example behind it, where it is one."""
    text_source: str = ""
    """The source of the text of a corpus behind it, where it is one."""

    @property
    def facts(self) -> Result:
        """Return a result that has what does not depend on the model: group, domain, tier."""
        return next(result for result in self.results if result)

    @property
    def source(self) -> str:
        """Return where the item is from; of one that is none of the workspace's data, its group."""
        return self.example.source if self.example else self.text_source or self.facts.group

    @property
    def link(self) -> str:
        """Return the item's name on the page, the same in every report that has it."""
        return f"{self.measure}/{self.item}"

    @cached_property
    def values(self) -> list[float | None]:
        """Return of each model the loss in nats per token, or the verdict on its answer; None where there is none or it is no number."""
        return [None if result is None else _value(result) for result in self.results]

    def change(self, model: int) -> float | None:
        """Return the gain of a model over the reference, below zero where it is worse; None where one has no value."""
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
    """Return the items of all models: answers that the leading model lost, won and failed, then all others and losses.

    Within a kind the order is that of the items, which are hashes; losses begin with the one that rose most.
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
        if "sampled" not in measure  # not an answer, but a probability over several
    ]
    at = names.index(leading)
    return sorted(items, key=lambda item: _rank(item, at))


def _rank(item: Item, leading: int) -> tuple[int, float, str, str]:
    """Sort key of an item."""
    change = item.change(leading)
    if item.measure in LOSSES:
        return 5, change or 0.0, item.measure, item.item
    if change:
        return int(change > 0), 0.0, item.item, item.measure
    after = item.values[leading]
    return (4 if after is None else 3 if after == 1 else 2), 0.0, item.item, item.measure
