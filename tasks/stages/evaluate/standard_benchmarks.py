"""Scores of a model on standard benchmarks, by lm-evaluation-harness."""

from pathlib import Path
from typing import Any

from tasks.core import statistics
from tasks.engine.forward import use_own_attention
from tasks.io import harness, pinned, provenance
from tasks.stages.evaluate.config import EvaluateConfig, Harness

UNPADDED = frozenset({"recurrent_gemma", "rwkv", "xlstm"})
"""Families whose recurrent state also processes the padding before a short prompt, so that its answer depends on the rest of the batch."""


def measure(model: Any, tokenizer: Any, config: Harness, evaluate_config: EvaluateConfig) -> dict[str, Any]:
    """Return the version of the harness, and each score by name with an interval from its standard error.

    Raises ValueError if the digest of the user's folder of tasks is not the one set: DVC does not watch the folder.
    """
    if config.include:
        _check(config.include, config.digest)
    use_own_attention(model)
    scores = harness.run(
        model,
        tokenizer,
        config.tasks,
        include=config.include,
        limit=config.limit,
        batch_size=1 if model.config.model_type in UNPADDED else config.batch_size,
        chat=config.chat,
        seed=evaluate_config.seed,
    )
    return {"version": harness.version(), "scores": {score.name: _record(score, evaluate_config) for score in scores}}


def _record(score: harness.Score, config: EvaluateConfig) -> dict[str, float | None]:
    estimate = statistics.from_error(score.value, score.error, score.items, config.confidence)
    return estimate.record() | {"error": round(score.error, 6)}


def _check(folder: Path, expected: str) -> None:
    if not folder.is_dir():
        raise ValueError(f"evaluate.harness.include: there is no folder {folder}.")
    pinned.check(folder, provenance.digest(folder), expected, "evaluate.harness.digest")
