"""Leave the items that people found to be wrong out of all figures, and name them.

An item is left out after it was measured, and no other takes its place. So the results of all other items stay the same to the bit, also
of those that shared a batch with it. The gate set ignores these decisions and judges by all its items: nobody can remove an item that a
candidate would fail, and the bars of earlier promotions do not change.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tasks.core.records import Decision, Result


def leave_out(results: Sequence[Result], wrong: Collection[str]) -> list[Result]:
    """Return the results of all other items. Raises ValueError that names each measure with no item left."""
    kept = [result for result in results if result.item not in wrong]
    empty = {result.measure for result in results} - {result.measure for result in kept}
    if empty:
        raise ValueError(
            f"data/review_items.jsonl marks all items of {', '.join(sorted(empty))} as wrong, so no item is left to measure. "
            "Withdraw some decisions (`ratchet review --web`), or add data."
        )
    return kept


def record(wrong: Mapping[str, Decision], results: Sequence[Result], gate: Sequence[Result]) -> dict[str, Any]:
    """Return the items that are left out, with measures, author and reason, and the ids of decisions without effect, by cause.

    `results` are the results of all items, `gate` those of the gate set.
    """
    measures: dict[str, dict[str, None]] = {}
    for result in results:
        if result.item in wrong:
            measures.setdefault(result.item, {})[result.measure] = None
    items = {
        item: {"measures": list(measures[item]), "author": wrong[item].author, "reason": wrong[item].reason}
        for item in sorted(measures)
    }
    of_gate = {result.item for result in gate}.intersection(wrong)
    return {
        "items": items,
        "of the gate set": sorted(of_gate),
        "not measured": sorted(wrong.keys() - items.keys() - of_gate),
    }


def in_words(left_out: Mapping[str, Any]) -> str:
    """Return a sentence about the items that are left out and the decisions without effect."""
    parts = [
        f"{len(left_out['items'])} items are left out, since people found them wrong: {_listed(left_out['items'])}"
    ]
    if of_gate := left_out["of the gate set"]:
        parts.append(f"the gate set keeps all its items, so these too: {_listed(of_gate)}")
    if absent := left_out["not measured"]:
        parts.append(f"these items were not measured: {_listed(absent)}")
    return "; ".join(parts)


def _listed(items: Collection[str]) -> str:
    return ", ".join(items) or "none"
