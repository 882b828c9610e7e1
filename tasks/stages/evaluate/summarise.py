"""Figures of one model from its items, each with its interval."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tasks.core import statistics
from tasks.core.records import Result
from tasks.stages.evaluate.params import EvaluateParams

TIERS = ("short", "medium", "long")


def summarise(results: Sequence[Result], not_run: str | None, params: EvaluateParams) -> dict[str, Any]:
    """Every measure by name: losses in nats per token and bits per byte, pass@1 by tier or the reason it was not run.

    Intervals of losses come from resampling groups; those of pass@1 are exact.
    """
    how = statistics.Bootstrap(seed=params.seed, confidence=params.confidence)
    solved = [row for row in results if row.measure == "pass@1"]
    measures = dict.fromkeys(row.measure for row in results if row.measure != "pass@1")
    return {measure: _loss([row for row in results if row.measure == measure], how) for measure in measures} | {
        "pass@1": {"not_run": not_run} if not_run else _passed(solved, params.confidence),
        "outcomes": dict(sorted(Counter(row.outcome for row in solved).items())),
    }


def _loss(rows: Sequence[Result], how: statistics.Bootstrap) -> dict[str, Any]:
    nats, tokens = [row.value for row in rows], [row.tokens for row in rows]
    estimate = statistics.ratio(nats, tokens, [row.group for row in rows], how).record()
    return {
        "loss": estimate["value"],
        "low": estimate["low"],
        "high": estimate["high"],
        "bits_per_byte": round(sum(nats) / math.log(2) / sum(row.size for row in rows), 6),
        "items": len(rows),
        "groups": estimate["n"],
        "tokens": sum(tokens),
    }


def _passed(rows: Sequence[Result], confidence: float) -> dict[str, Any]:
    tiers = {tier: [row for row in rows if row.tier == tier] for tier in TIERS}
    shown = {"all": list(rows)} | {tier: found for tier, found in tiers.items() if found}
    return {
        tier: statistics.proportion(int(sum(row.value for row in found)), len(found), confidence).record()
        for tier, found in shown.items()
    }
