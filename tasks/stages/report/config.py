"""The `report` section: confidence of the intervals, margin of the general loss, number of answers shown."""

from typing import Annotated

from pydantic import Field

from tasks.core.config import Config
from tasks.core.stage import Model, Stage, Turn

STAGE = Stage(
    reads={
        "base": "models/base/ratchet.json",
        "pretrained": "models/pretrained",
        "tuned": "models/tuned",
        "rounds": "data/rounds",
        "selection": "data/selection.json",
        "ingested": "data/ingested/report.json",
        "test": "data/ingested/test.parquet",
        "documents": "data/ingested/test_documents.parquet",
        "metrics": "data/metrics",
        "results": "data/results",
    },
    writes={"report": "data/report"},
    parts={"curators": "diagnose.curator"},
)


class AspectsConfig(Config):
    """The measures of faithfulness and of safety, by the beginnings of their names. Every other measure is one of utility. A report says
    `not measured` for an aspect without measures."""

    faithfulness: tuple[Annotated[str, Field(min_length=1)], ...] = ("edit ", "truthfulqa")
    """Measures of whether the model's statements are true, or agree with what it was given."""
    safety: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "bbq",
        "crows_pairs",
        "realtoxicityprompts",
        "toxigen",
        "winogender",
        "wmdp",
    )
    """Measures of whether the model's statements do harm: tasks of lm-evaluation-harness, or your own."""


class ReportConfig(Config):
    """Settings of the comparison of models."""

    general_margin: float = Field(0.05, gt=0)
    """Largest rise of the general loss, in nats per token, that still counts as no worse."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Level of every confidence interval."""
    resamples: int = Field(2000, ge=100, le=100_000)
    """Number of draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
    answers: int = Field(10, ge=0, le=100)
    """Number of tasks whose answers are shown side by side on the page."""
    aspects: AspectsConfig = AspectsConfig()


class StageConfig(Config):
    """The sections of params.yaml that stage `report` reads."""

    report: ReportConfig
    turns: dict[str, Turn]
    models: dict[str, Model]
