"""Turn the answers of a log into items with numeric scores, and count the answers without one."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.experiments.logs.records import Answer, Item, counted, differ

GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""The letters of inspect-ai: correct, incorrect, partially correct, no answer."""
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
SHOWN = 3
"""Number of examples that a remark names."""


def number(value: object) -> float | None:
    """Return a score as a number, from numbers, booleans, inspect-ai's grades, and texts of these; None for anything else."""
    if isinstance(value, str):
        if value in GRADES:
            return GRADES[value]
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, int | float):
        return None
    try:
        score = float(value)
    except OverflowError:
        return None
    return score if math.isfinite(score) else None


def build_items(answers: Iterable[Answer], where: str) -> tuple[dict[str, Item], int, list[str]]:
    """Return the items, the largest number of scores of an item, and remarks on what was left out.

    Several scores of an item in one measure are averaged. Raises ValueError if two different items have one id, or if there is no score.
    """
    first: dict[str, Answer] = {}
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[str, list[str]] = defaultdict(list)
    failed, read = [], 0
    for answer in answers:
        read += 1
        known = first.get(answer.item, answer)
        if differ(known.target, answer.target) or differ(known.prompt, answer.prompt):
            raise ValueError(
                f"{where}: two different items have the id {answer.item!r}: their inputs or targets differ. Ids pair the "
                "items of two logs, so each item needs its own."
            )
        first[answer.item] = replace(
            known,
            target=known.target or answer.target,
            prompt=known.prompt or answer.prompt,
            facts={name: text for facts in (answer.facts, known.facts) for name, text in facts.items() if text},
        )
        if answer.error:
            failed.append(answer.item)
        for measure, value in _flat(answer.scores):
            score = number(value)
            if score is None:
                refused[measure].append(f"{answer.item}: {_short(value)}")
            else:
                scores[answer.item][measure].append(score)
    if not scores:
        raise ValueError(
            f"{where}: no item has a score: {read:,} answers read, {len(failed):,} ended in an error"
            f"{_examples(next(iter(refused.values()), []), ', scores that are not numbers: ')}."
        )
    items = {
        item: Item(
            first[item].target,
            first[item].prompt,
            first[item].facts,
            {measure: math.fsum(values) / len(values) for measure, values in by_measure.items()},
        )
        for item, by_measure in scores.items()
    }
    most = max(len(values) for by_measure in scores.values() for values in by_measure.values())
    return items, most, list(_remarks(first, scores, refused, failed, most))


def _remarks(
    first: Mapping[str, Answer],
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    refused: Mapping[str, Sequence[str]],
    failed: Sequence[str],
    most: int,
) -> Iterator[str]:
    if most > 1:
        several = sum(any(len(values) > 1 for values in by_measure.values()) for by_measure in scores.values())
        yield f"{counted(several, 'item')} with several scores (epochs), {most} at most: each item counts once, with their mean."
    if failed:
        yield f"{counted(len(failed), 'answer')} ended in an error{_examples(failed, ': ')}."
    if lacking := [item for item in first if item not in scores]:
        yield f"{counted(len(lacking), 'item')} without a score, left out{_examples(lacking, ': ')}."
    measured = {measure for by_measure in scores.values() for measure in by_measure}
    for measure, values in refused.items():
        count = counted(len(values), "score") if measure in measured else f"all {counted(len(values), 'score')}"
        yield f"{measure}: {count} not a finite number, left out{_examples(values, ': ')}."


def _flat(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the scores. The entries of a mapping are yielded one by one as `scorer.key`."""
    for measure, value in scores.items():
        if isinstance(value, Mapping):
            yield from ((f"{measure}.{key}", inner) for key, inner in value.items())
        else:
            yield measure, value


def _examples(values: Sequence[str], before: str) -> str:
    if not values:
        return ""
    return before + ", ".join(values[:SHOWN]) + (", …" if len(values) > SHOWN else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
