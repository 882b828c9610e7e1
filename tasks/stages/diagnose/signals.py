"""Build the signals of every example from the measurements, and the summary of a diagnosis."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from numpy.typing import NDArray
from scipy.stats import spearmanr

from tasks.core.records import Example, Signals
from tasks.core.sequences import Encoded
from tasks.engine.inference.scoring import Loss
from tasks.methods.curators import Curator, Limit
from tasks.stages.diagnose.judging import Judgements

Neighbourhood = Mapping[str, tuple[float, list[str]]]
"""Example → mean cosine to its nearest neighbours, and their ids, the nearest first."""


def per_token(losses: Iterable[Loss]) -> dict[str, float]:
    """Return the loss of each sequence in nats per token."""
    return {loss.id: loss.nats / loss.tokens for loss in losses}


def not_finite(*losses: Mapping[str, float]) -> set[str]:
    """Return the ids of examples with a loss that is not finite."""
    return {name for by_example in losses for name, loss in by_example.items() if not isfinite(loss)}


def neighbourhood(ids: Sequence[str], cosines: NDArray[Any], places: NDArray[Any]) -> Neighbourhood:
    """Return each example's nearest neighbours. `cosines` and `places` are (N, K); a place of -1 means no neighbour."""
    nearest = {}
    for name, row, near in zip(ids, cosines.tolist(), places.tolist(), strict=True):
        known = [(cosine, ids[place]) for cosine, place in zip(row, near, strict=True) if place >= 0]
        if known:
            nearest[name] = (sum(cosine for cosine, _ in known) / len(known), [other for _, other in known])
    return nearest


def signal_rows(
    examples: Sequence[Example],
    looked_at: Iterable[Encoded],
    excluded: Mapping[str, str],
    losses: tuple[Mapping[str, float], Mapping[str, float]],
    near: Neighbourhood,
    judged: Judgements,
    curator: Curator,
) -> list[Signals]:
    """Return a row of signals for every example, in order. No row is in a set yet: the curator chooses the sets."""
    tokens = {sequence.id: sequence.num_trained for sequence in looked_at}
    rows = []
    for example in examples:
        name = example.id
        known = name not in excluded
        before, after = (by_example.get(name) if known else None for by_example in losses)
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
    """Return Spearman's correlation between the quality scores of two ways of judging.

    None if fewer than three examples have both, or if one way gives all of them the same score.
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
    """Return the share of answers that could not be parsed; None without answers."""
    answers = [score for scores in judged.values() for score in scores.values()]
    return sum(score is None for score in answers) / len(answers) if answers else None


def totals(rows: Sequence[Signals], tokens: int, limits: Mapping[str, Limit]) -> dict[str, Any]:
    """Return the summary over all examples for diagnosis.json; `tokens` is the number of tokens looked at."""
    flagged, chosen = (Counter(name for row in rows for name in getattr(row, key)) for key in ("flags", "chosen"))
    return {
        "limits": {name: asdict(limit) for name, limit in limits.items()},
        "sets": {name: {"found": flagged[name], "chosen": chosen[name]} for name in sorted({*flagged, *chosen})},
        "examples": len(rows),
        "looked_at": sum(not row.excluded for row in rows),
        "tokens": tokens,
        "excluded": dict(sorted(Counter(row.excluded for row in rows if row.excluded).items())),
    }


def _quality(scores: Mapping[str, float | None], curator: Curator) -> float | None:
    return curator.quality([scores.get(field) for field in curator.questions])
