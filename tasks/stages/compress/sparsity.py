"""Sparsity of a compressed difference."""

from collections import Counter
from collections.abc import Mapping
from typing import Any


def nonzero_shares(quantised: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of non-zero entries over all tensors of each kind: `{"lora_A": 0.31, "lora_B": 0.09}`."""
    total, nonzero = Counter[str](), Counter[str]()
    for name, tensor in quantised.items():
        kind = _kind(name)
        total[kind] += tensor.numel()
        nonzero[kind] += int(tensor.count_nonzero())
    return {kind: round(nonzero[kind] / total[kind], 6) for kind in sorted(total)}


def _kind(name: str) -> str:
    """Return the last distinctive segment of a tensor's name."""
    segments = [segment for segment in name.split(".") if segment not in ("weight", "bias", "default")]
    return segments[-1] if segments else name
