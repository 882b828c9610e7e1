"""What is left of a difference."""

from collections import Counter
from collections.abc import Mapping
from typing import Any


def kept(quantised: Mapping[str, Any]) -> dict[str, float]:
    """The share of entries that are not zero, for all tensors of one kind: `{"lora_A": 0.31, "lora_B": 0.09}`."""
    total, left = Counter[str](), Counter[str]()
    for name, tensor in quantised.items():
        kind = _kind(name)
        total[kind] += tensor.numel()
        left[kind] += int(tensor.count_nonzero())
    return {kind: round(left[kind] / total[kind], 6) for kind in sorted(total)}


def _kind(name: str) -> str:
    """The last segment of a tensor's name that says anything."""
    segments = [segment for segment in name.split(".") if segment not in ("weight", "bias", "default")]
    return segments[-1] if segments else name
