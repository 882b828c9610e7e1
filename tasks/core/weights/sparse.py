"""Sparse differences of weights, the entries that differ by tensor: compute, add and subtract them.

Shapes: N = number of differing entries of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Entries:
    """The differing entries of one tensor."""

    index: Tensor
    """Their indices in the flattened tensor, ascending, (N,)."""
    values: Tensor
    """The differences, (N,)."""
    shape: tuple[int, ...]
    """The shape of the tensor."""


Sparse = Mapping[str, Entries]
"""The differences of a model's tensors, by name. Tensors without any are left out."""


def between(tuned: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Entries]:
    """Return `tuned` minus `base`. Raises ValueError if they do not have the same tensors."""
    if odd := [name for name in sorted({*tuned, *base}) if _shape(tuned, name) != _shape(base, name)]:
        raise ValueError(f"{odd[0]} does not have one shape in both models, so there is no difference between them.")
    return {
        name: _entries(tensor - base[name]) for name, tensor in tuned.items() if not torch.equal(tensor, base[name])
    }


def add(one: Sparse, other: Sparse, factor: float = 1.0) -> dict[str, Entries]:
    """Return `one` plus `factor` times `other`; a factor of -1 subtracts. Entries that cancel are left out.

    Raises ValueError if a tensor has different shapes in the two.
    """
    total = dict(one)
    for name, entries in other.items():
        scaled = Entries(entries.index, factor * entries.values, entries.shape)
        if name not in total:
            total[name] = scaled
            continue
        if total[name].shape != entries.shape:
            raise ValueError(f"{name} is {total[name].shape} in one difference and {entries.shape} in the other.")
        index = torch.cat([total[name].index, scaled.index])
        values = torch.cat([total[name].values, scaled.values])
        places, where = index.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        sums = values.new_zeros(len(places)).index_add(0, where, values)
        total[name] = Entries(places[sums != 0], sums[sums != 0], entries.shape)
    return {name: entries for name, entries in total.items() if len(entries.index)}


def dense(difference: Sparse) -> dict[str, Tensor]:
    """Return the difference as dense tensors, for compressors."""
    return {
        name: entries.values.new_zeros(math.prod(entries.shape))
        .index_copy(0, entries.index, entries.values)
        .view(entries.shape)
        for name, entries in difference.items()
    }


def _entries(tensor: Tensor) -> Entries:
    flat = tensor.detach().flatten()
    index = flat.nonzero().flatten()
    return Entries(index, flat[index], tuple(tensor.shape))


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
