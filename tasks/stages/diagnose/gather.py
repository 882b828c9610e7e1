"""Signals of every example, put together from what was measured, and the figures of a diagnosis."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from scipy.stats import spearmanr

from tasks.core.records import Example, Signals
from tasks.core.sequences import Encoded
from tasks.engine.scoring import Loss
from tasks.methods.curators import Curator, Limit
from tasks.stages.diagnose.judge import Judgements

Neighbourhood = Mapping[str, tuple[float, list[str]]]
"""Example → mean cosine to the nearest others, and these, the nearest first."""


def per_token(losses: Iterable[Loss]) -> dict[str, float]:
    """Nats a token of each sequence."""
    return {loss.id: loss.nats / loss.tokens for loss in losses}


def not_finite(*losses: Mapping[str, float]) -> set[str]:
    """The examples of which a loss is none."""
    return {name for found in losses for name, loss in found.items() if not isfinite(loss)}


def neighbourhood(ids: Sequence[str], cosines: Any, places: Any) -> Neighbourhood:
    """Who is near whom. `cosines` and `places` are (N, K); a place is -1 where nobody was found."""
    found = {}
    for name, row, near in zip(ids, cosines.tolist(), places.tolist(), strict=True):
        known = [(cosine, ids[place]) for cosine, place in zip(row, near, strict=True) if place >= 0]
        if known:
            found[name] = (sum(cosine for cosine, _ in known) / len(known), [other for _, other in known])
    return found


def signals(
    examples: Sequence[Example],
    looked_at: Sequence[Encoded],
    excluded: Mapping[str, str],
    losses: tuple[Mapping[str, float], Mapping[str, float]],
    near: Neighbourhood,
    judged: Judgements,
    curator: Curator,
) -> list[Signals]:
    """A row for every example, in their order, in no set yet."""
    tokens = {sequence.id: sequence.num_trained for sequence in looked_at}
    rows = []
    for example in examples:
        name = example.id
        known = name not in excluded
        before, after = (found.get(name) if known else None for found in losses)
        similarity, others = near.get(name, (None, []))
        scores: dict[str, Any] = {field: judged.get(name, {}).get(field) for field in curator.questions}
        quality = curator.quality(list(scores.values()))
        rows.append(
            Signals(
                name,
                before,
                after,
                tokens.get(name, 0),
                similarity,
                others,
                **scores,
                quality=quality,
                flags=[],
                chosen=[],
                excluded=excluded.get(name, ""),
            )
        )
    return rows


def agreement(judged: Judgements, others: Judgements, curator: Curator) -> dict[str, Any]:
    """How far two ways of judging put examples in the same order: Spearman's correlation of their quality.

    None where fewer than three examples have both, or one way makes no difference between them.
    """
    pairs = [
        (first, second)
        for name in others
        if (first := _quality(judged.get(name, {}), curator)) is not None
        and (second := _quality(others[name], curator)) is not None
    ]
    varied = all(len(set(column)) > 1 for column in zip(*pairs, strict=True))
    known = len(pairs) > 2 and varied
    return {"examples": len(pairs), "spearman": round(float(spearmanr(pairs).statistic), 6) if known else None}


def unreadable(judged: Judgements) -> float | None:
    """The share of answers that could not be read; None where nothing was asked."""
    answers = [score for scores in judged.values() for score in scores.values()]
    return sum(score is None for score in answers) / len(answers) if answers else None


def figures(rows: Sequence[Signals], looked_at: Sequence[Encoded], limits: Mapping[str, Limit]) -> dict[str, Any]:
    """What a diagnosis says of all examples together."""
    flagged, chosen = (Counter(name for row in rows for name in getattr(row, key)) for key in ("flags", "chosen"))
    return {
        "limits": {name: asdict(limit) for name, limit in limits.items()},
        "sets": {name: {"found": flagged[name], "chosen": chosen[name]} for name in sorted({*flagged, *chosen})},
        "examples": len(rows),
        "looked_at": sum(not row.excluded for row in rows),
        "tokens": sum(map(len, looked_at)),
        "excluded": dict(sorted(Counter(row.excluded for row in rows if row.excluded).items())),
    }


def _quality(scores: Mapping[str, float | None], curator: Curator) -> float | None:
    return curator.quality([scores.get(field) for field in curator.questions])
