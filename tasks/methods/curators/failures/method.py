"""Functions of `failures`. The equation is in the card, `__init__.py`."""

import math
from collections.abc import Mapping

from tasks.methods.curators import Attempts, TaskCurator
from tasks.methods.curators.failures.config import FailuresConfig


def allocate(attempts: Mapping[str, Attempts], examples: int, config: FailuresConfig) -> dict[str, int]:
    """Return the number of new tasks of each kind for a round of `examples` examples; all zero if there was no failure."""
    number = config.add if config.growth is None else round(config.growth * examples)
    asked = {kind: tried for kind, tried in attempts.items() if tried.asked}
    if config.where == "uniform":
        weights = dict.fromkeys(asked, float(any(tried.failed for tried in asked.values())))
    else:
        weights = {kind: tried.failed / tried.asked for kind, tried in asked.items()}
    if config.where == "learnable":
        weights = {
            kind: weights[kind] * (tried.asked - tried.failed + 1) / (tried.asked + 2) for kind, tried in asked.items()
        }
    return dict.fromkeys(attempts, 0) | spread(number, weights)


def spread(number: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Divide a number in proportion to weights: integer parts first, then one each by largest remainder; of equal ones the first."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {name: number * weight / total for name, weight in weights.items()}
    parts = {name: math.floor(part) for name, part in exact.items()}
    by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
    for name in by_remainder[: number - sum(parts.values())]:
        parts[name] += 1
    return parts


METHOD = TaskCurator(allocate=allocate)
