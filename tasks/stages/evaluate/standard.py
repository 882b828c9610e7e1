"""What a model scores on standard benchmarks."""

from pathlib import Path
from typing import Any

from tasks.core import statistics
from tasks.io import harness, provenance
from tasks.stages.evaluate.params import EvaluateParams, Harness


def measure(model: Any, tokenizer: Any, asked: Harness, params: EvaluateParams) -> dict[str, Any]:
    """Each figure by name, with an interval from its standard error, and the version of the harness.

    Raises ValueError unless the folder of the user's tasks holds what the settings say: DVC does not watch it.
    """
    if asked.include:
        _check(asked.include, asked.digest)
    found = harness.run(
        model,
        tokenizer,
        asked.tasks,
        include=asked.include,
        limit=asked.limit,
        batch_size=asked.batch_size,
        chat=asked.chat,
        seed=params.seed,
    )
    return {"version": harness.version(), "scores": {score.name: _record(score, params) for score in found}}


def _record(score: harness.Score, params: EvaluateParams) -> dict[str, float | None]:
    estimate = statistics.from_error(score.value, score.error, score.items, params.confidence)
    return estimate.record() | {"error": round(score.error, 6)}


def _check(folder: Path, expected: str) -> None:
    if not folder.is_dir():
        raise ValueError(f"evaluate.harness.include: there is no folder {folder}.")
    found = provenance.digest(folder)
    if found != expected:
        raise ValueError(
            f"{folder} does not hold what evaluate.harness.digest names ({expected[:12] or 'nothing'}). "
            f"If you mean what is there now, write `digest: {found}`."
        )
