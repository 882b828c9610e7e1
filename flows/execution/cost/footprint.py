"""Count the bytes that a training holds whatever its data are: stored weights, and gradients and moments of what trains."""

from dataclasses import dataclass

from flows.execution.cost.workload import WEIGHT_BYTES, Settings, Shape, computes_gradients
from tasks import methods

STATES = 12
"""Bytes of gradient and AdamW's moments for each number that trains, in fp32."""
ADAPTER = 0.02
"""Share of a model's numbers that an adapter is assumed to train."""
VOCABULARY = 150_000
"""Assumed size of the vocabulary, in tokens."""
STORED = {"nf4": 4.13 / 8, "int8": 1.0}
"""Base → bytes of a weight of a linear layer. Embeddings and head are not quantised."""
OUTSIDE = 0.25
"""The largest share of a model's numbers that lies in embeddings and head: that of Qwen2.5-0.5B."""
STREAMED_LAYERS = 3
"""Layers that are in memory at a time if the optimizer streams blocks of the model."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training."""

    weights: float
    """Weights, as the base stores them."""
    at_once: float
    """Bytes of weights that are in memory at a time: fewer if blocks are streamed."""
    least_states: float
    """Gradients and moments if the selector trains as little as it may."""
    most_states: float


def of(stage: str, settings: Settings, shape: Shape) -> Footprint:
    """Return what a training of a model of this size holds; the share that a selector trains is bounded, not read from its settings."""
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
