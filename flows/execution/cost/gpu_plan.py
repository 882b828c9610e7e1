"""Estimate time and memory on GPUs that are not available, by data sheets and assumed shares of their peaks. Nothing was measured."""

import re
from dataclasses import replace

from flows.execution.cost import footprint
from flows.execution.cost.workload import WEIGHT_BYTES, Settings, Shape, computes_gradients
from tasks.core import speed as speeds
from tasks.core.speed import GPUS, Gpu, Pace, Speed

READS, TRAINS, FETCHES = 0.45, 0.35, 0.6
"""Assumed shares of a GPU's peak: of its compute in a forward pass and in a training step, and of its memory bandwidth when weights are
read for the next token."""
LAYER_S = 3e-4
"""Seconds that a layer is assumed to take for the next token beside reading its weights: the launch of its kernels."""
START_S = 10.0
"""Seconds that a stage is assumed to take to start."""
SCALES = 0.9
"""Assumed share of a process's speed that is left if several processes share a step."""
KEPT, KEPT_CHECKPOINTED, INNER = 34, 2, 40
"""Bytes for each token and hidden channel: those that a layer keeps for the backward pass, in full or, with activation checkpointing, its
input alone; and the inner activations of one layer, which are all that a pass without gradients holds (Korthikanti et al. 2022,
https://arxiv.org/abs/2205.05198, without attention scores)."""


def gpu(name: str) -> Gpu:
    """Return the figures of a GPU. Raises ValueError, which names the known GPUs."""
    known = speeds.gpu(name)
    if known is None:
        raise ValueError(f"--gpu {name}: no figures are known of it. There are: {', '.join(GPUS)}.")
    named = re.search(r"\b(\d+) ?GB\b", name)  # an A100, for example, also exists with 40 GB
    return replace(known, gigabytes=int(named[1])) if named else known


def speed(of: Gpu, processes: int = 1) -> Speed:
    """Return the speed of `processes` such GPUs that share the steps of a training."""
    shared = processes * SCALES if processes > 1 else 1.0
    pace = Pace(1, READS * of.tflops * 1e12 * shared, TRAINS * of.tflops * 1e12 * shared)
    return Speed(
        START_S, pace, Pace(2, pace.read_ops_per_s, pace.train_ops_per_s), LAYER_S, FETCHES * of.terabytes_per_s * 1e12
    )


def training_bytes(stage: str, settings: Settings, shape: Shape, *, is_checkpointed: bool) -> tuple[float, float]:
    """Return the least and the most bytes of each GPU's memory that a training is expected to take."""
    share = settings.number("compute.processes", 1) if settings.text("compute.fsdp") == "True" else 1
    held = footprint.of(stage, settings, shape)
    tokens = settings.number(f"{stage}.pack_tokens", 1024)
    goes_back = computes_gradients(stage, settings)
    kept = shape.layers * (KEPT_CHECKPOINTED if is_checkpointed else KEPT) if goes_back else 0
    inner = tokens * shape.hidden * (kept + (INNER if is_checkpointed or not goes_back else 0))
    logits = (8 if goes_back else 4) * tokens * footprint.VOCABULARY
    least = (held.at_once + held.least_states) / share + inner + 0.1 * logits
    most = (held.at_once + held.most_states) / share + inner + logits
    return 0.85 * least, 1.25 * most


def reading_bytes(shape: Shape, precision: str) -> float:
    """Return the bytes of a model's weights in a stage that does not train: in fp32 if that is the precision, otherwise in bf16."""
    return (WEIGHT_BYTES if precision == "fp32" else WEIGHT_BYTES / 2) * shape.parameters
