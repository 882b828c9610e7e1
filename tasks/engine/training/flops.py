"""Count the FLOPs of a training step and look up the peak of GPUs, for the MFU: the fraction of the peak that matrix products use."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tasks.core import speed
from tasks.core.compute import Compute
from tasks.core.weights.surgery import ALL_LINEAR, decoder_layers, plain, sizes
from tasks.engine import device
from tasks.engine.forward import ATTENDING
from tasks.engine.packing import Pack

CHOSEN = ("num_experts_per_tok", "top_k_experts", "moe_k", "moe_topk")
"""Names of the setting for the number of experts that a token passes through (gemma4, ernie4_5_moe and hunyuan have names of their own)."""


@dataclass(frozen=True)
class TrainingFlops:
    """FLOPs of the matrix products of one forward and backward pass.

    For each token a weight costs 2 FLOPs forward, 2 backward, and 2 for its own gradient if it trains. N weights thus cost 6 N a token if all
    train, and 4 N if all are frozen. Recomputed activations and auxiliary sequences are not counted.
    """

    per_token: float
    """Linear layers of the decoder, and the experts that a token passes through."""
    per_trained_token: float
    """The head, which runs on trained tokens only."""
    per_pair: Mapping[float, float]
    """Window (infinite where there is none) → FLOPs of causal attention for a pair of tokens of which one attends to the other."""

    def of(self, packs: Sequence[Pack]) -> float:
        """Return the FLOPs of one pass over the packs."""
        sequences = [sequence for pack in packs for sequence in pack.sequences]
        return (
            self.per_token * sum(map(len, sequences))
            + self.per_trained_token * sum(sequence.num_trained for sequence in sequences)
            + sum(flops * _pairs(len(one), window) for window, flops in self.per_pair.items() for one in sequences)
        )


def _pairs(length: int, window: float) -> float:
    """Return the number of pairs of a sequence's tokens of which one attends to the other: half of all, or those within a window."""
    seen = min(length, window)
    return length * seen - seen**2 / 2


def count(model: nn.Module) -> TrainingFlops:
    """Count the FLOPs of a training of `model`, with the parameters that train in it now."""
    inner: Any = plain(model)
    layers, head, config = decoder_layers(inner), inner.get_output_embeddings(), inner.config.get_text_config()
    weights = sum(rows * columns for rows, columns in sizes(inner, ALL_LINEAR).values())
    training = sum(p.numel() for p in layers.parameters() if p.requires_grad and p.ndim == 2)
    per_pair: dict[float, float] = {}
    routed = routed_training = 0.0
    for number, layer in enumerate(layers):
        settings = config.per_layer_config[number] if getattr(config, "is_heterogeneous", False) else config
        if width := _attends(config, number) * _heads_width(settings):
            window = _window(config, settings, number)
            per_pair[window] = per_pair.get(window, 0.0) + 12 * width
        for experts in _experts(layer):
            passed = experts.numel() * min(1.0, _chosen(settings, number) / len(experts))
            routed += passed
            routed_training += passed * experts.requires_grad
    return TrainingFlops(
        per_token=4 * (weights + routed) + 2 * (training + routed_training),
        per_trained_token=head.weight.numel() * (6 if head.weight.requires_grad else 4),
        per_pair=per_pair,
    )


def _kind(config: Any, number: int) -> str | None:
    """Return the type of a decoder layer by the model's config; None if the config does not list types of layers."""
    kinds = getattr(config, "layer_types", None) or ()
    return kinds[number] if number < len(kinds) else None


def _attends(config: Any, number: int) -> bool:
    """Return False for a layer without attention: one that passes on a state, or an MLP alone."""
    return (_kind(config, number) or "full_attention") in ATTENDING


def _heads_width(settings: Any) -> int:
    """Return the total width of a layer's heads; 0 for a family without heads, such as Mamba."""
    heads = getattr(settings, "num_attention_heads", None) or 0
    return heads * (getattr(settings, "head_dim", None) or settings.hidden_size // max(1, heads))


def _window(config: Any, settings: Any, number: int) -> float:
    """Return the number of tokens that a token attends to in a layer; infinite where it attends to all before it."""
    slides = _kind(config, number) in (None, "sliding_attention")
    return (getattr(settings, "sliding_window", None) if slides else None) or math.inf


def _experts(layer: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the tensors that hold one matrix for each expert of a layer. Convolution kernels, which also have three dimensions, are skipped."""
    for module in layer.modules():
        if not isinstance(module, nn.Conv1d):
            yield from (p for p in module.parameters(recurse=False) if p.ndim == 3)


def _chosen(settings: Any, number: int) -> int:
    """Return the number of experts that a token passes through in a layer; 0 for a model without experts. Hunyuan sets it for each layer."""
    chosen = next((value for name in CHOSEN if (value := getattr(settings, name, None))), 0)
    return int(chosen[number] if isinstance(chosen, list | tuple) else chosen)


def peak(name: str) -> float | None:
    """Return the peak of the GPU of this name in bf16 FLOPs per second; None if it is not in `speed.GPUS`."""
    gpu = speed.gpu(name)
    return gpu.tflops * 1e12 if gpu else None


def _has_layers(model: nn.Module) -> bool:
    """Return False for a family whose decoder layers are not found (MPT, RWKV): peft's adapters can train it, but FLOPs cannot be counted."""
    try:
        decoder_layers(model)
    except ValueError:
        return False
    return True


class Utilisation:
    """The MFU of training steps; None for CPUs, for fp32, for GPUs whose peak is not in the table, and for models without a known list of layers."""

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        known = compute.device == "cuda" and device.precision(compute) == "bf16" and _has_layers(model)
        gpu = peak(torch.cuda.get_device_name()) if known else None
        self._peak = gpu * device.processes() if gpu else None
        self._model = model

    def of(self, packs: Sequence[Pack], seconds: float) -> float | None:
        """Return the MFU of a step on these packs. Call it right after the step, since each step may train other weights."""
        if self._peak is None:
            return None
        return count(self._model).of(packs) / seconds / self._peak
