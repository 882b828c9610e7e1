"""Telemetry of a running training, for people: a progress line, and metrics by step in MLflow. No stage output contains any of it."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from tasks.core.stage import Run
from tasks.io.system import usage

VALIDATION = "validation"
"""The name of stage `tune`'s only validation set; its loss is `valid/loss` in MLflow."""
REWARDS = "rewards/"
"""Prefix of the names of rewards among the values of a validation."""


@dataclass(frozen=True)
class StepMetrics:
    """One optimizer step, as it was measured."""

    step: int
    """Counted from 1."""
    steps: int
    """Steps of the whole training."""
    loss: float
    """The objective's loss per trained token."""
    learning_rate: float
    gradient_norm: float | None
    """Before clipping; None for an optimizer without gradients."""
    epoch: float
    """Epochs completed so far, with their fraction."""
    tokens: int
    """All tokens of the step, over all processes."""
    trained_tokens: int
    """The tokens of the step that have a loss."""
    seconds: float
    """The time since the end of the previous step, without validation and checkpoints."""
    mfu: float | None
    """Fraction of the GPUs' peak; None where the peak is unknown (`tasks.engine.training.flops`)."""


OnStep = Callable[[StepMetrics], None]
OnValidation = Callable[[int, Mapping[str, float]], None]
"""Called with a step and the values measured after it: the loss on each validation set, and the rewards of held-out answers."""


class Telemetry:
    """Reports a training to its run: every step to MLflow, and at intervals a line with the latest figures."""

    def __init__(self, run: Run, before: Mapping[str, float]) -> None:
        self._run, self._before = run, before
        self._progress: Iterator[int] | None = None
        self._steps = self._tokens = self._trained_tokens = 0
        self._seconds = self._start = 0.0
        self._status = ""
        self._validation = ""

    def on_step(self, metrics: StepMetrics) -> None:
        """Report a step."""
        if self._progress is None:
            self._start = time.perf_counter() - metrics.seconds
            left = range(metrics.step, metrics.steps + 1)
            self._progress = iter(
                self._run.track(left, total=len(left), unit="step", status=lambda: self._status + self._validation)
            )
            if metrics.step == 1:
                self.on_validation(0, self._before)
        next(self._progress, None)  # shows the previous step, with its status
        self._steps += 1
        self._tokens += metrics.tokens
        self._trained_tokens += metrics.trained_tokens
        self._seconds += metrics.seconds
        logged = self._logged(metrics)
        self._status = _status(logged)
        self._run.log(metrics.step, **logged)

    def on_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Report the losses on the validation sets and the rewards after a step."""
        if not values:
            return
        logged = {metric_of(name): value for name, value in values.items()}
        self._validation = "".join(f" · {name} {value:.4f}" for name, value in logged.items())
        self._run.log(step, **logged)

    def summary(self) -> str:
        """Return totals of the training's steps in one line; empty if no step was made."""
        if not self._seconds:
            return ""
        return (
            f"{self._steps} steps in {self._seconds:,.1f} s, {self._tokens / self._seconds:,.0f} tokens/s "
            f"({self._trained_tokens / self._seconds:,.0f} trained), "
            + ", ".join(f"{_words(name)} {value:,.0f} MB" for name, value in memory().items())
        )

    def _logged(self, metrics: StepMetrics) -> dict[str, float]:
        elapsed = time.perf_counter() - self._start
        values = {
            "train/loss": metrics.loss,
            "train/learning_rate": metrics.learning_rate,
            "train/gradient_norm": metrics.gradient_norm,
            "train/epoch": metrics.epoch,
            "train/tokens_per_second": metrics.tokens / metrics.seconds,
            "train/trained_tokens_per_second": metrics.trained_tokens / metrics.seconds,
            "system/mfu": metrics.mfu,
            "system/eta_seconds": elapsed / self._steps * (metrics.steps - metrics.step),
            **memory(),
        }
        return {name: value for name, value in values.items() if value is not None}


def metric_of(name: str) -> str:
    """Return the metric of a validation: `valid/loss`, or `valid/domain_loss` where there are several sets; `valid/rewards/margins`."""
    if name.startswith(REWARDS):
        return f"valid/{name}"
    return "valid/loss" if name == VALIDATION else f"valid/{name}_loss"


def memory() -> dict[str, float]:
    """Return the peak memory of this process so far, and the peak memory of its GPU."""
    taken = {"system/peak_memory_mb": usage.peak_memory_mb()}
    if on_gpu := torch.cuda.max_memory_allocated():
        taken["system/gpu_peak_memory_mb"] = on_gpu / 2**20
    return taken


def _words(name: str) -> str:
    """Return `peak memory` for `system/peak_memory_mb`."""
    return name.partition("/")[2].removesuffix("_mb").replace("_", " ")


def _status(logged: Mapping[str, float]) -> str:
    """Return the figures of a step that the progress line shows."""
    shown = {
        "train/loss": "loss {:.4f}",
        "train/learning_rate": "learning rate {:.2e}",
        "train/gradient_norm": "gradient norm {:.3g}",
        "train/epoch": "epoch {:.2f}",
        "train/tokens_per_second": "{:,.0f} tokens/s",
        "system/mfu": "MFU {:.1%}",
        "system/peak_memory_mb": "{:,.0f} MB",
        "system/gpu_peak_memory_mb": "{:,.0f} MB of GPU",
    }
    return " · ".join(text.format(logged[name]) for name, text in shown.items() if name in logged)
