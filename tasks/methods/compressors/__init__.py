"""Compressors: a trained model in fewer bytes.

A compressor's folder holds `SPEC = CompressorSpec(config=…)` and `METHOD = …`, a record of one of three kinds, cut by what it
acts on:

- `DeltaCompressor` acts on what training changed: an adapter's tensors, or weights less those of the base. It is two pure
  steps. `quantise` loses: the same names and shapes, fewer distinct values. `encode` loses nothing: the tensors of a file,
  from which `decode` gives the quantised ones back to the bit. What is added to what is no business of the method
  (`tasks.io.weights.compressed`).
- `WeightCompressor` acts on the weights of a whole plain model, adapter merged. `write` makes a folder, `read` opens it.
  Formats of other programs, such as GGUF, are of this kind.
- `Compressor` alone leaves the model as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.methods import Spec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CompressorSpec(Spec):
    """The facts about a compressor."""

    readers: Mapping[str, str] = field(default_factory=dict)
    """The readers of `tasks.methods.interchange` that open what it writes, each with the way in which it does."""
    families: frozenset[str] = frozenset()
    """The `model_type`s of the models that it writes; empty where it writes any."""


@dataclass(frozen=True, kw_only=True)
class Compressor:
    """No compression."""


@dataclass(frozen=True, kw_only=True)
class DeltaCompressor(Compressor):
    """One way of storing a difference."""

    candidates: Callable[[Any], Sequence[Any]]
    """The configs that a config leaves open, best guess first where it is known: validation loss chooses among them."""
    quantise: "Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]"
    encode: "Callable[[Mapping[str, Tensor]], dict[str, Tensor]]"
    decode: "Callable[[Mapping[str, Tensor]], dict[str, Tensor]]"


@dataclass(frozen=True, kw_only=True)
class WeightCompressor(Compressor):
    """One way of storing the weights of a whole model."""

    write: Callable[[Any, Any, Path, Any], None]
    """`write(model, tokenizer, folder, config)` fills the folder, which exists."""
    read: Callable[[Path, str, str], tuple[Any, Any]]
    """`read(folder, dtype, device)` gives the model and its tokenizer back."""
