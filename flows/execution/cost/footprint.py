"""The bytes that a training holds whatever its data are: weights as its base stores them, gradients and moments of what trains."""

from dataclasses import dataclass

from flows.execution.cost.workload import WEIGHT_BYTES, Settings, Shape, computes_gradients
from tasks import methods

STATES = 12
"""Bytes of gradient and AdamW's moments for each number that trains, in fp32."""
ADAPTER = 0.02
"""Share of a model's numbers that an adapter is assumed to train."""
VOCABULARY = 150_000
"""Tokens of the vocabulary that is assumed."""
STORED = {"nf4": 4.13 / 8, "int8": 1.0}
"""Base → bytes of a weight of a linear layer. Embeddings and head keep theirs."""
OUTSIDE = 0.25
"""Share of a model's numbers that lies in embeddings and head, at most: that of Qwen2.5-0.5B."""
STREAMED_LAYERS = 3
"""Layers that are in memory at a time where blocks of the model are streamed through it."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training."""

    weights: float
    """Weights, as the base stores them."""
    at_once: float
    """Those that are in memory at a time: fewer where blocks are streamed."""
    least_states: float
    """Gradients and moments, where the selector trains as little as it may."""
    most_states: float


def of(stage: str, settings: Settings, shape: Shape) -> Footprint:
    """Return what a training of a model of this size holds; the share that a selector trains is not read from its settings."""
    selects = settings.text(f"{stage}.selector") not in ("", "all")
    whole = STATES * shape.parameters * (ADAPTER if settings.adapts(stage) else 1.0)
    most = whole if computes_gradients(stage, settings) else 0.0
    outside = WEIGHT_BYTES * min(2 * VOCABULARY * shape.hidden, OUTSIDE * shape.parameters)
    stored = STORED.get(settings.text(f"{stage}.base"), WEIGHT_BYTES)
    inside = stored * (shape.parameters - outside / WEIGHT_BYTES)
    optimizer = settings.text(f"{stage}.optimizer")
    streams = bool(optimizer) and methods.spec("optimizers", optimizer).streams
    at_once = outside + inside * (min(1.0, STREAMED_LAYERS / shape.layers) if streams else 1.0)
    return Footprint(outside + inside, at_once, 0.0 if selects else most, most)
