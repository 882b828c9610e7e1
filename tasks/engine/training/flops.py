"""FLOPs of a training step and the peak of GPUs, which make its MFU: the share of the peak that the model's products take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tasks.core import speed
from tasks.core.compute import Compute
from tasks.core.weights.surgery import ALL_LINEAR, decoder_layers, plain, sizes
from tasks.engine import device
from tasks.engine.packing import Pack


@dataclass(frozen=True)
class TrainingFlops:
    """FLOPs of the matrix products of one forward and backward pass.

    A weight costs 2 FLOPs a token forward, 2 backward, and 2 for its own gradient if it trains: 6 N a token where everything
    trains, 4 N where all is frozen. Recomputed activations and auxiliary sequences are not counted.
    """

    per_token: float
    """Linear layers of the decoder."""
    per_trained_token: float
    """The head, which runs on trained tokens only."""
    per_squared_length: float
    """Causal attention: scores and values of half of a sequence's pairs."""

    def of(self, packs: Sequence[Pack]) -> float:
        """Return the FLOPs of one pass over the packs."""
        sequences = [sequence for pack in packs for sequence in pack.sequences]
        return (
            self.per_token * sum(map(len, sequences))
            + self.per_trained_token * sum(sequence.num_trained for sequence in sequences)
            + self.per_squared_length * sum(len(sequence) ** 2 for sequence in sequences)
        )


def count(model: nn.Module) -> TrainingFlops:
    """Count the FLOPs of a training of `model`, with what trains in it now."""
    inner: Any = plain(model)
    layers, head, config = decoder_layers(inner), inner.get_output_embeddings(), inner.config.get_text_config()
    weights = sum(rows * columns for rows, columns in sizes(inner, ALL_LINEAR).values())
    training = sum(p.numel() for p in layers.parameters() if p.requires_grad and p.ndim == 2)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return TrainingFlops(
        per_token=4 * weights + 2 * training,
        per_trained_token=head.weight.numel() * (6 if head.weight.requires_grad else 4),
        per_squared_length=6 * len(layers) * config.num_attention_heads * width,
    )


def peak(name: str) -> float | None:
    """Return the peak of the GPU of this name in bf16 FLOPs a second; None if `speed.GPUS` does not have it."""
    gpu = speed.gpu(name)
    return gpu.tflops * 1e12 if gpu else None


class Utilisation:
    """The MFU of training steps; None for CPUs, for fp32, and for GPUs whose peak is not in the table."""

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        known = compute.device == "cuda" and device.precision(compute) == "bf16"
        gpu = peak(torch.cuda.get_device_name()) if known else None
        self._peak = gpu * device.processes() if gpu else None
        self._model = model

    def of(self, packs: Sequence[Pack], seconds: float) -> float | None:
        """Return the MFU of a step on these packs, just after it: what trains may be other weights in each step."""
        if self._peak is None:
            return None
        return count(self._model).of(packs) / seconds / self._peak
