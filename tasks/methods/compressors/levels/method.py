"""Functions of levels. Equations and the legend of symbols are in the card, `__init__.py`."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tasks.core.weights import levels
from tasks.methods.compressors import DeltaCompressor
from tasks.methods.compressors.levels.config import LevelsConfig

OTHER = "other/"
"""Prefix of the names of tensors that are stored unchanged: integer tensors, and those of more than 16 values."""
WIDTHS = (1, 2, 4)
"""The possible numbers of bits of a number in a file."""
TINY = torch.finfo(torch.float32).tiny
"""Added to a deviation that may underflow to 0. It is this small since fully trained weights differ from the base by as little as 1e-5."""


def candidates(config: LevelsConfig) -> Sequence[LevelsConfig]:
    """Return the config itself, since there is nothing to choose."""
    return [config]


@torch.no_grad()
def quantise(delta: Mapping[str, Tensor], config: LevelsConfig) -> dict[str, Tensor]:
    """Return each tensor rounded to 2^bits values; a tensor with no more values, or of integers, is returned unchanged."""

    def one(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or len(_values(tensor)[0]) <= 2**config.bits:
            return tensor
        return levels.quantised(tensor.float(), config.bits, TINY).to(tensor.dtype)

    return {name: one(tensor.detach()) for name, tensor in delta.items()}


def encode(quantised: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the file."""
    rows: list[tuple[str, list[int], str, int]] = []
    packed: list[Tensor] = [torch.empty(0, dtype=torch.uint8)]
    values: list[Tensor] = []
    other: dict[str, Tensor] = {}
    for name, tensor in sorted(quantised.items()):
        tensor = tensor.detach().cpu()
        table, index = _values(tensor)
        if not tensor.is_floating_point() or len(table) > 2 ** WIDTHS[-1]:
            other[OTHER + name] = tensor
            continue
        rows.append((name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."), len(table)))
        packed.append(levels.pack(index.flatten(), width(len(table))))
        values.append(table)
    text = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 9)
    planes = {"header": torch.tensor(list(text), dtype=torch.uint8), "bits": torch.cat(packed)}
    return planes | _by_dtype(values) | other


def decode(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that were encoded, bit for bit except for the sign of zeros."""
    decoded = {name.removeprefix(OTHER): tensor for name, tensor in stored.items() if name.startswith(OTHER)}
    packed = stored["bits"]
    values = {name: tensor for name, tensor in stored.items() if name.startswith("values/")}
    for name, shape, dtype, count in json.loads(zlib.decompress(stored["header"].numpy().tobytes())):
        numbers, bits = math.prod(shape), width(count)
        table, values[f"values/{dtype}"] = values[f"values/{dtype}"].tensor_split([count])
        index, packed = packed.tensor_split([math.ceil(numbers * bits / 8)])
        decoded[name] = table[levels.unpack(index, bits, numbers).long()].reshape(shape)
    return decoded


def _values(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a tensor's distinct values, ascending, and the index of each number's value among them."""
    table, index = tensor.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    return table, index


def width(count: int) -> int:
    """Return the number of bits that distinguishes `count` values."""
    return next(bits for bits in WIDTHS if count <= 2**bits)


def _by_dtype(tables: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return all values, one tensor for each of their types."""
    return {
        f"values/{str(dtype).removeprefix('torch.')}": torch.cat([table for table in tables if table.dtype == dtype])
        for dtype in dict.fromkeys(table.dtype for table in tables)
    }


METHOD = DeltaCompressor(candidates=candidates, quantise=quantise, encode=encode, decode=decode)
