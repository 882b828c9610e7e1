"""The `tune` section: the composition of methods, and the length of training."""

from typing import Any

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.training import Training, TrainOn, parts

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "examples": "data/rounds/{item}/examples.parquet",
        "faults": "data/rounds/{item}/faults.parquet",
        "valid": "data/ingested/valid.parquet",
    },
    writes={"model": "models/tuned/{item}"},
    items="rounds",
    parts=parts("tune"),
)


class TuneConfig(Training):
    """Training on the examples of a round."""

    max_tokens: int = Field(40_000, ge=0)
    """Training ends after this many tokens, prompts included. With 0 the pretrained model is passed through unchanged."""
    train_on: TrainOn = "all"
    """The answers of a conversation that train: all of the assistant's, or the last alone. What comes before an answer is its
    context. Answers of preference pairs, diagnosis and evaluation look at the last."""


class StageConfig(Config):
    """Sections of params.yaml that stage `tune` reads."""

    compute: Compute
    tune: TuneConfig
    methods: dict[str, dict[str, Any]]
    """The sections of the parts."""
