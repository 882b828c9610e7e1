"""Functions of MMD. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.methods.monitors import Finding, Monitor
from tasks.methods.monitors._permutations import chance, relabelled
from tasks.methods.monitors.mmd.config import MmdConfig


@dataclass(frozen=True)
class Fitted:
    """The fitted reference: its embeddings, (N, D), of unit length."""

    vectors: NDArray[np.float64]
    permutations: int


def fit(reference_ND: NDArray[np.float32], tasks: Sequence[str], config: MmdConfig) -> Fitted:
    """Return the reference's embeddings."""
    return Fitted(_unit(reference_ND), config.permutations)


def score(fitted: Fitted, incoming_MD: NDArray[np.float32], seed: int) -> Finding:
    """Return MMD² between both samples, and its p-value."""
    num_reference, num_incoming = len(fitted.vectors), len(incoming_MD)
    y_BT = relabelled(num_reference, num_incoming, fitted.permutations, seed)
    kernel_TT = _kernel(np.concatenate([fitted.vectors, _unit(incoming_MD)]))
    within_B = np.einsum("bt,bt->b", y_BT @ kernel_TT, y_BT)
    touching_B = y_BT @ kernel_TT.sum(axis=1)
    across_B = touching_B - within_B
    rest_B = kernel_TT.sum() - touching_B - across_B
    mmd_B = (
        rest_B / (num_reference * (num_reference - 1))
        + within_B / (num_incoming * (num_incoming - 1))
        - 2 * across_B / (num_reference * num_incoming)
    )
    return Finding(float(mmd_B[0]), chance(mmd_B))


def _kernel(pooled_TD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel between all items, with 0 on the diagonal."""
    squared_TT = np.maximum(2 - 2 * pooled_TD @ pooled_TD.T, 0).round(12)  # 0 between equal items
    median = float(np.median(squared_TT[np.triu_indices(len(pooled_TD), 1)]))
    kernel_TT: NDArray[np.float64] = np.exp(-squared_TT / (2 * median or 1))  # if all are equal, any width will do
    np.fill_diagonal(kernel_TT, 0)
    return kernel_TT


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1))


METHOD = Monitor(fit=fit, score=score)
