"""Hyperdimensional computing on the hidden states of several layers: keys bind, sums bundle, cosines compare.

    h(x) = sum_l key_l * (P^T f_l(x)),    B = sum_x h(x),    similarity(x, B) = cos(h(x), B)

P has orthonormal rows and keys are signs, so |key_l * (P^T f)| = |f|, and key_l * (P^T .) is itself a random projection with orthonormal
rows: one P with keys replaces one projection for each layer. Both are drawn from a seed and never trained. Bundles are additive: the bundle of
two sets is the sum of their bundles, in any order.
Shapes: N = texts, K = bundles, L = layers, H = hidden size, D = size of a hypervector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-6
"""The spread of a number, relative to its size, below which it counts as constant over all texts."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Space:
    """A hyperdimensional space for the states of some layers."""

    projection_HD: NDArray[np.float32]
    keys_LD: NDArray[np.float32]

    def describe(self, states_NLH: Array) -> NDArray[np.float32]:
        """Return the hypervector of each text, (N, D): the bundle of its layers, each bound to its key."""
        vectors_ND = np.zeros((len(states_NLH), self.projection_HD.shape[1]), dtype=np.float32)
        for layer, key_D in enumerate(self.keys_LD):
            vectors_ND += bind(states_NLH[:, layer].astype(np.float32) @ self.projection_HD, key_D)
        return vectors_ND


@lru_cache(maxsize=2)
def space(layers: int, width: int, size: int, seed: int = 0) -> Space:
    """Return the space of this size for `layers` layers of this width.

    Raises ValueError if hypervectors would be shorter than states, because then no projection has orthonormal rows.
    """
    if size < width:
        raise ValueError(
            f"hypervectors of {size} numbers are shorter than hidden states of {width}; set a size of {width} or more."
        )
    random = np.random.default_rng([seed, layers, width, size])
    columns_DH, upper_HH = np.linalg.qr(random.standard_normal((size, width), dtype=np.float32))
    projection_HD = np.ascontiguousarray((columns_DH * np.sign(np.diag(upper_HH))).T)
    keys_LD = random.choice(np.array([-1, 1], dtype=np.float32), (layers, size))
    return Space(projection_HD, keys_LD)


def bind(vectors: Array, key: Array) -> Array:
    """Bind by the elementwise product."""
    return np.asarray(vectors * key)


def bundle(vectors_ND: Array) -> Array:
    """Bundle by the sum."""
    return np.asarray(vectors_ND.sum(axis=0))


def bundles(vectors_ND: Array, names: Sequence[str]) -> Array:
    """Return the bundle of each name, (K, D), in the order of the names."""
    owners = np.array(names)
    return np.stack([bundle(vectors_ND[owners == name]) for name in sorted(set(names))])


def cosines(vectors_ND: Array, others_KD: Array) -> NDArray[np.float64]:
    """Return the cosine of each vector with each of the others, (N, K); 0 if one of the two is zero."""
    unit_ND, unit_KD = (_unit(each) for each in (vectors_ND, others_KD))
    return np.asarray(unit_ND @ unit_KD.T, dtype=np.float64)


def varies(centre: Array, spread: Array) -> NDArray[np.bool_]:
    """Return False for each number that is constant over all texts."""
    return np.asarray(spread > LEAST * np.maximum(1, abs(centre)))


def standardised(states: Array, centre: Array, spread: Array) -> Array:
    """Return states minus a centre, divided by their spread, elementwise; 0 for a number that is constant over all texts."""
    says = varies(centre, spread)
    return np.asarray(np.where(says, (states - centre) / np.where(says, spread, 1), 0))


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))
