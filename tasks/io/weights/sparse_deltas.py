"""Sparse differences on disk: one safetensors file of indices and values, which names the weights to which it is added."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.weights import sparse
from tasks.core.weights.sparse import Entries, Sparse
from tasks.io.weights import checkpoints

INDEX, VALUES = "/index", "/values"
REMEDY = "Name the folder of a model, or a file that `ratchet delta` wrote."


def write(path: Path, tuned: Path, base: Path) -> dict[str, Entries]:
    """Write the difference of the whole model in folder `tuned` to its base, and return it.

    Raises ValueError if `tuned` is an adapter, or a model of another shape.
    """
    if checkpoints.is_adapter(tuned):
        raise ValueError(f"{tuned} is an adapter, which is small as it is. Name a model that was trained whole.")
    difference = sparse.between(*(_weights(folder) for folder in (tuned, base)))
    save(path, difference, checkpoints.weights_digest(base))
    return difference


def save(path: Path, difference: Sparse, parent: str) -> None:
    """Write a difference to the weights whose digest is `parent`."""
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, entries in difference.items():
        narrow = math.prod(entries.shape) <= torch.iinfo(torch.int32).max
        tensors[name + INDEX] = entries.index.to(torch.int32 if narrow else torch.int64)
        tensors[name + VALUES] = entries.values.contiguous()
    shapes = {name: list(entries.shape) for name, entries in difference.items()}
    save_file(tensors, path, {"format": "pt", "parent": parent, "shapes": json.dumps(shapes)})


def read(path: Path) -> tuple[dict[str, Entries], str]:
    """Return a difference, and the digest of the weights to which it is added. Raises ValueError for another file."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if "shapes" not in facts:
                raise ValueError(f"{path} is not a sparse difference: its header names no shapes. {REMEDY}")
            difference = {
                name: Entries(
                    file.get_tensor(name + INDEX).to(torch.int64), file.get_tensor(name + VALUES), tuple(shape)
                )
                for name, shape in json.loads(facts["shapes"]).items()
            }
    except SafetensorError as error:
        raise ValueError(f"{path} is not a sparse difference: {error}. {REMEDY}") from None
    return difference, facts["parent"]


def add(path: Path, files: Sequence[tuple[Path, float]]) -> dict[str, Entries]:
    """Write the sum of the differences, each times its factor, to the new file `path`, and return it.

    Raises ValueError for differences from different weights.
    """
    total: dict[str, Entries] = {}
    first, parent = files[0][0], ""
    for file, factor in files:
        difference, expected = read(file)
        if expected != (parent := parent or expected):
            raise ValueError(f"{file} is a difference to weights {expected[:12]}, and {first} to {parent[:12]}.")
        total = sparse.add(total, difference, factor)
    save(path, total, parent)
    return total


def _weights(folder: Path) -> Mapping[str, Any]:
    return {name: parameter.detach() for name, parameter in checkpoints.load(folder)[0].named_parameters()}
