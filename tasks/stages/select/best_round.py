"""Choose the best of several rounds, with the reason."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Losses = Mapping[str, float | None]
"""Round → its validation loss in nats per token, or None. The earliest round comes first."""


class Choice(NamedTuple):
    """The chosen round, and the reason."""

    round: str
    why: str


def choose(losses: Losses) -> Choice:
    """Return the round of the lowest validation loss, the earliest of equals; the first if no round has a loss."""
    first = next(iter(losses))
    known = {name: loss for name, loss in losses.items() if loss is not None and math.isfinite(loss)}
    if not known:
        return Choice(first, f"no round has a validation loss that is a number, so the first is kept: {_each(losses)}")
    if len(losses) == 1:
        return Choice(first, "there is no other round")
    chosen = min(known, key=known.__getitem__)
    equals = [name for name in known if known[name] == known[chosen]]
    lowest = f"the lowest validation loss of {len(losses)} rounds: {_each(losses)}"
    return Choice(chosen, f"the earliest of {_listed(equals)}, which have {lowest}" if equals[1:] else lowest)


def validation_loss(course: Mapping[str, Any] | None) -> float | None:
    """Return the last validation loss in a `training.json`; None without a training or without validation data."""
    points = (course or {}).get("measured", {}).get("validation")
    return points[-1][1] if points else None


def _each(losses: Losses) -> str:
    return ", ".join(f"{name} {'has none' if loss is None else format(loss, '.4f')}" for name, loss in losses.items())


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
