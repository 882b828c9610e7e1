"""A lossless code for sparse tensors: Golomb–Rice run lengths between the entries that are not zero, and their values.

Golomb 1966, "Run-length encodings"; the parameter as in Sattler et al. 2019, https://arxiv.org/abs/1903.02891:
  b = 1 + floor(log2(ln(phi - 1) / ln(1 - k)))    phi = (1 + sqrt 5) / 2, k = share of the entries that are kept
A run of g zeros is g >> b in unary (that many 0, then a 1), then the low b bits of g. Ternary tensors, whose kept entries are
all +a or -a, add one sign bit for each entry; others store their values unchanged.

Our design: the unary parts, the low bits and the signs are stored in separate planes, so that numpy decodes all runs at once.
Each tensor has its own parameter, computed from its density (size and count), since a LoRA's A and B keep different shares.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PHI = (1 + math.sqrt(5)) / 2
OTHER = "other/"
"""Prefix of the names of tensors that are stored uncompressed: integer tensors."""

Bits = NDArray[np.uint8]
Positions = NDArray[np.int64]


def parameter(count: int, size: int) -> int:
    """Return the number of low bits of a run if `count` of `size` entries are kept."""
    if not 0 < count < size:
        return 0
    return max(0, 1 + math.floor(math.log2(math.log(PHI - 1) / math.log1p(-count / size))))


def encode(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file that holds these sparse tensors."""
    names = sorted(name for name in tensors if tensors[name].is_floating_point())
    flat = {name: tensors[name].detach().cpu().flatten() for name in names}
    places = {name: flat[name].nonzero().flatten() for name in names}
    values = {name: flat[name][places[name]] for name in names}
    scales = [_scale(values[name]) for name in names]
    ternary = None not in scales
    runs, lows = zip(*(_runs(places[name].numpy(), flat[name].numel()) for name in names), strict=True)
    header = {
        "names": names,
        "shapes": [list(tensors[name].shape) for name in names],
        "dtypes": [str(tensors[name].dtype).removeprefix("torch.") for name in names],
        "counts": [len(places[name]) for name in names],
        "scales": scales if ternary else None,
    }
    kept = {"signs": _pack([(values[n] > 0).numpy() for n in names])} if ternary else _by_dtype(values)
    other = {OTHER + name: tensor.detach().cpu() for name, tensor in tensors.items() if name not in flat}
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    planes = {"header": torch.tensor(list(text), dtype=torch.uint8), "runs": _pack(runs), "lows": _pack(lows)}
    return planes | kept | other


def decode(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sparse tensors that `encode` was given, bit for bit except for the sign of zeros."""
    header = json.loads(zlib.decompress(stored["header"].numpy().tobytes()))
    kinds = [getattr(torch, kind) for kind in header["dtypes"]]
    places = _places(stored, header["counts"], [math.prod(shape) for shape in header["shapes"]])
    values = _values(stored, header, kinds)
    decoded = {}
    for name, shape, kind, place, value in zip(header["names"], header["shapes"], kinds, places, values, strict=True):
        flat = torch.zeros(math.prod(shape), dtype=kind)
        flat[torch.from_numpy(place)] = value
        decoded[name] = flat.reshape(shape)
    return decoded | {name.removeprefix(OTHER): t for name, t in stored.items() if name.startswith(OTHER)}


def _scale(values: Tensor) -> float | None:
    """Return the magnitude that all values share; None if they differ."""
    if not len(values):
        return 0.0
    first = values[0].abs()
    return float(first) if bool((values.abs() == first).all()) else None


def _runs(places: Positions, size: int) -> tuple[Bits, Bits]:
    """Return the unary and the low bits of the runs of zeros before each place."""
    low_bits = parameter(len(places), size)
    gaps = np.diff(places, prepend=-1) - 1
    ends = np.cumsum((gaps >> low_bits) + 1)
    unary = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
    unary[ends - 1] = 1
    return unary, ((gaps[:, None] >> np.arange(low_bits)) & 1).astype(np.uint8).ravel()


def _places(stored: Mapping[str, Tensor], counts: Sequence[int], sizes: Sequence[int]) -> Iterator[Positions]:
    """Yield the places of the kept entries of each tensor, the inverse of `_runs`."""
    ends = np.flatnonzero(np.unpackbits(stored["runs"].numpy()))[: sum(counts)]  # the last byte is filled up with zeros
    highs = np.diff(ends, prepend=-1) - 1
    lows = np.unpackbits(stored["lows"].numpy())
    at = start = 0
    for count, size in zip(counts, sizes, strict=True):
        low_bits = parameter(count, size)
        low = lows[start : start + count * low_bits].reshape(count, low_bits) @ (1 << np.arange(low_bits))
        yield np.cumsum((highs[at : at + count] << low_bits) + low + 1) - 1
        at, start = at + count, start + count * low_bits


def _values(stored: Mapping[str, Tensor], header: Mapping[str, Any], kinds: Sequence[torch.dtype]) -> Iterator[Tensor]:
    """Yield the kept values of each tensor."""
    counts = header["counts"]
    if header["scales"] is not None:
        signs = torch.from_numpy(np.unpackbits(stored["signs"].numpy())[: sum(counts)]).float() * 2 - 1
        for sign, scale, kind in zip(torch.split(signs, counts), header["scales"], kinds, strict=True):
            yield (sign * scale).to(kind)
        return
    waiting = {kind: stored[f"values/{str(kind).removeprefix('torch.')}"] for kind in set(kinds)}
    for count, kind in zip(counts, kinds, strict=True):
        yield waiting[kind][:count]
        waiting[kind] = waiting[kind][count:]


def _by_dtype(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all values, one tensor for each of their types."""
    kinds = dict.fromkeys(value.dtype for value in values.values())
    return {
        f"values/{str(kind).removeprefix('torch.')}": torch.cat([v for v in values.values() if v.dtype == kind])
        for kind in kinds
    }


def _pack(planes: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.packbits(np.concatenate(planes)))
