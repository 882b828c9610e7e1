"""Functions of HDC. Equations and the legend of symbols are in the card, `__init__.py`."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.methods import hyperdimensional
from tasks.methods.monitors import Finding, Monitor
from tasks.methods.monitors._permutations import chance, check_counts, relabelled
from tasks.methods.monitors.hdc.config import HdcConfig


@dataclass(frozen=True)
class Fitted:
    """The fitted reference: the states of the bundled half, with their tasks, and of the held-out half."""

    bundled_NLH: NDArray[np.float32]
    tasks: Sequence[str]
    held_out_NLH: NDArray[np.float32]
    config: HdcConfig


def fit(reference_NLH: NDArray[np.float32], tasks: Sequence[str], config: HdcConfig) -> Fitted:
    """Split the reference by the content of its items, independently of their order.

    Equal items are split like all others, because the key of each includes the number of equal items before it.
    """
    before: Counter[bytes] = Counter()
    keys = []
    for content in map(np.ndarray.tobytes, reference_NLH):
        keys.append(hashlib.sha256(content + bytes(before[content])).digest())
        before[content] += 1
    order = sorted(range(len(keys)), key=keys.__getitem__)
    bundled, held_out = order[::2], order[1::2]
    return Fitted(reference_NLH[bundled], [tasks[place] for place in bundled], reference_NLH[held_out], config)


def score(fitted: Fitted, incoming_MLH: NDArray[np.float32], seed: int) -> Finding:
    """Return the value, its p-value, and the items that lie in no domain."""
    check_counts(len(fitted.bundled_NLH) + len(fitted.held_out_NLH), len(incoming_MLH), halves=True)
    farness = _farness(fitted, incoming_MLH)
    held_out, came = np.split(farness, [len(fitted.held_out_NLH)])
    y_BT = relabelled(len(held_out), len(came), fitted.config.permutations, seed)
    sums_B = y_BT @ farness
    values_B = sums_B / len(came) - (farness.sum() - sums_B) / len(held_out)
    new = np.flatnonzero(came > _edge(held_out, fitted.config.rare))
    return Finding(float(values_B[0]), chance(values_B), new=tuple(new.tolist()))


def _farness(fitted: Fitted, incoming_MLH: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return s of the held-out items, followed by s of the incoming items."""
    pooled = np.concatenate([fitted.bundled_NLH, fitted.held_out_NLH, incoming_MLH]).astype(np.float64)
    figures = hyperdimensional.standardised(pooled, pooled.mean(axis=0), pooled.std(axis=0))
    vectors = hyperdimensional.space(*pooled.shape[1:], fitted.config.size).describe(figures)
    bundled, others = np.split(vectors, [len(fitted.bundled_NLH)])
    bundles = hyperdimensional.bundles(bundled, fitted.tasks)
    return np.asarray(-hyperdimensional.cosines(others, bundles).max(axis=1))


def _edge(held_out: NDArray[np.float64], rare: float) -> float:
    """Return the value that an item like the held-out ones exceeds with probability at most `rare`; infinity if they are too few."""
    place = math.ceil((len(held_out) + 1) * (1 - rare)) - 1
    return float(np.sort(held_out)[place]) if place < len(held_out) else math.inf


METHOD = Monitor(fit=fit, score=score)
