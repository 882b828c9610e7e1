"""Changes of domain and general loss during a training: gain in the domain against forgetting elsewhere."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class LossChange(NamedTuple):
    """The changes of both losses at a checkpoint since the start of the training, in nats per token."""

    tokens: int
    """Number of tokens trained so far."""
    domain: float
    """Below zero is a gain."""
    general: float
    """Above zero is forgetting."""


def loss_changes(course: Mapping[str, Any]) -> list[LossChange]:
    """Return the changes at each checkpoint, the start first; an empty list if the training did not measure both losses.

    A checkpoint with a loss that is not finite is left out.
    """
    measured = course.get("measured", {})
    if not measured.keys() >= {"domain", "general"}:
        return []
    domain, general = measured["domain"], measured["general"]
    changes = [
        LossChange(tokens, round(domain_loss - domain[0][1], 6), round(general_loss - general[0][1], 6))
        for (tokens, domain_loss), (_, general_loss) in zip(domain, general, strict=True)
    ]
    return [change for change in changes if all(map(math.isfinite, change))]
