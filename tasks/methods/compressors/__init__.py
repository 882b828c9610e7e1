"""Compressors: a trained model in fewer bytes.

A compressor's folder holds `SPEC = CompressorSpec(config=…)` and `METHOD = …`, a record of one of three kinds, which act on different data:

- `DeltaCompressor` acts on the change that training made: an adapter's tensors, or weights minus those of the base. It has two pure
  steps. `quantise` is lossy: the same names and shapes, fewer distinct values. `encode` is lossless: it returns the tensors of a file,
  from which `decode` restores the quantised ones bit for bit. Adding the change to the base is not the method's task
  (`tasks.io.weights.compressed`).
- `WeightCompressor` acts on the weights of a whole plain model, with adapters merged. `write` fills a folder, `read` opens it.
  Formats of other programs, such as GGUF, are of this kind.
- `Compressor` alone leaves the model unchanged.
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
    """The readers of `tasks.methods.interchange` that open its files, each with a note on how."""
    families: frozenset[str] = frozenset()
    """The `model_type`s of models that it can write; empty if it can write any."""


@dataclass(frozen=True, kw_only=True)
class Compressor:
    """No compression."""


@dataclass(frozen=True, kw_only=True)
class DeltaCompressor(Compressor):
    """One way of storing a difference."""

    candidates: Callable[[Any], Sequence[Any]]
    """Returns the configs to try, best guess first where it is known: validation loss chooses among them."""
    quantise: "Callable[[Mapping[str, Tensor], Any], dict[str, Tensor]]"
    encode: "Callable[[Mapping[str, Tensor]], dict[str, Tensor]]"
    decode: "Callable[[Mapping[str, Tensor]], dict[str, Tensor]]"


@dataclass(frozen=True, kw_only=True)
class WeightCompressor(Compressor):
    """One way of storing the weights of a whole model."""

    write: Callable[[Any, Any, Path, Any], None]
    """`write(model, tokenizer, folder, config)` fills the folder, which exists."""
    read: Callable[[Path, str, str], tuple[Any, Any]]
    """`read(folder, dtype, device)` returns the model and its tokenizer."""
