"""Functions of the loss gap. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core import statistics
from tasks.core.statistics import Bootstrap
from tasks.methods.monitors import Finding, Monitor
from tasks.methods.monitors._permutations import chance, relabelled
from tasks.methods.monitors.loss_gap.config import LossGapConfig


@dataclass(frozen=True)
class Fitted:
    """The fitted reference: nats and tokens of each item, (N, 2)."""

    items: NDArray[np.float64]
    config: LossGapConfig


def fit(reference_N2: NDArray[np.float32], tasks: Sequence[str], config: LossGapConfig) -> Fitted:
    """Return the reference's losses."""
    return Fitted(reference_N2.astype("float64"), config)


def score(fitted: Fitted, incoming_M2: NDArray[np.float32], seed: int) -> Finding:
    """Return the gap, its confidence interval, and its p-value."""
    reference_N2, incoming = fitted.items, incoming_M2.astype(np.float64)
    pooled_T2 = np.concatenate([reference_N2, incoming])
    y_BT = relabelled(len(reference_N2), len(incoming), fitted.config.permutations, seed)
    sums_B2 = y_BT @ pooled_T2
    gap_B = _ratio(sums_B2) - _ratio(pooled_T2.sum(axis=0) - sums_B2)
    low, high = _interval(reference_N2, incoming, Bootstrap(fitted.config.resamples, seed))
    return Finding(float(gap_B[0]), chance(abs(gap_B)), low, high)


def _ratio(sums_B2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return nats per token; 0 if there are no tokens."""
    return np.divide(sums_B2[:, 0], sums_B2[:, 1], out=np.zeros(len(sums_B2)), where=sums_B2[:, 1] > 0)


def _interval(
    reference_N2: NDArray[np.float64], incoming_M2: NDArray[np.float64], how: Bootstrap
) -> tuple[float | None, float | None]:
    """Return the confidence interval of the gap; None if one side has tokens in fewer than two items, too few for an interval."""
    if min((items[:, 1] > 0).sum() for items in (reference_N2, incoming_M2)) < 2:
        return None, None
    known, came = (statistics.ratio(items[:, 0], items[:, 1], None, how) for items in (reference_N2, incoming_M2))
    gap = came.value - known.value
    return (
        gap - math.hypot(came.value - came.low, known.high - known.value),
        gap + math.hypot(came.high - came.value, known.value - known.low),
    )


METHOD = Monitor(fit=fit, score=score)
