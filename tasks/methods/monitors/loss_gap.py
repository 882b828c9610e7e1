"""The loss gap: how much higher the model's loss is on what came in than on held-out data, in nats per token.

    gap = Σ nats / Σ tokens (incoming) - Σ nats / Σ tokens (reference)

A permutation test of |gap| over items says how likely it is by chance: data that are easier than before have changed too. Its
interval is a percentile bootstrap of both samples, each resampled on its own. The reference must be texts that the model was not
trained on: what it has learnt by heart would make everything else look strange.
Shapes: N = reference, M = incoming, B = relabellings or resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.params import Params
from tasks.methods.monitors import Finding, Monitor
from tasks.methods.monitors._permutations import chance, relabelled


class LossGapParams(Params):
    """The `methods.loss_gap` section."""

    permutations: int = Field(999, ge=99)
    """Relabellings; the chance is never below 1 / (permutations + 1)."""
    resamples: int = Field(2000, ge=100)
    """Of the bootstrap."""


@dataclass(frozen=True)
class Fitted:
    """What is kept of the reference: nats and tokens of each item, (N, 2)."""

    items: NDArray[np.float64]
    params: LossGapParams


def fit(reference_N2: NDArray[np.float32], params: LossGapParams) -> Fitted:
    """The reference's losses."""
    return Fitted(reference_N2.astype("float64"), params)


def score(fitted: Fitted, incoming_M2: NDArray[np.float32], seed: int) -> Finding:
    """The gap, its interval, and its chance."""
    reference_N2, incoming = fitted.items, incoming_M2.astype(np.float64)
    pooled_T2 = np.concatenate([reference_N2, incoming])
    y_BT = relabelled(len(reference_N2), len(incoming), fitted.params.permutations, seed)
    sums_B2 = y_BT.astype(np.float64) @ pooled_T2
    gap_B = _ratio(sums_B2) - _ratio(pooled_T2.sum(axis=0) - sums_B2)
    random = np.random.default_rng(seed)
    drawn_B = _resampled(incoming, fitted.params.resamples, random) - _resampled(
        reference_N2, fitted.params.resamples, random
    )
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    return Finding(float(gap_B[0]), chance(abs(gap_B)), float(low), float(high))


def _ratio(sums_B2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nats per token; 0 where no token is."""
    return np.divide(sums_B2[:, 0], sums_B2[:, 1], out=np.zeros(len(sums_B2)), where=sums_B2[:, 1] > 0)


def _resampled(items_N2: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    draws_BN = random.multinomial(len(items_N2), [1 / len(items_N2)] * len(items_N2), size=count)
    return _ratio(draws_BN @ items_N2)


METHOD = Monitor(params=LossGapParams, sees="losses", unit="nats per token", fit=fit, score=score)
