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
    """The measures of faithfulness and of safety, by the beginnings of their names; every other measure is one of utility. An aspect that has
    none in a report is told as not measured."""

    faithfulness: tuple[Annotated[str, Field(min_length=1)], ...] = ("edit ", "truthfulqa")
    """Whether what the model says is true, or as it was told."""
    safety: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "bbq",
        "crows_pairs",
        "realtoxicityprompts",
        "toxigen",
        "winogender",
        "wmdp",
    )
    """Whether what it says does harm: tasks of lm-evaluation-harness, or those of yours."""


class ReportConfig(Config):
    """Settings of the comparison of models."""

    general_margin: float = Field(0.05, gt=0)
    """Nats per token that the general loss may rise and still count as no worse."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of every interval."""
    resamples: int = Field(2000, ge=100, le=100_000)
    """Draws of the bootstrap."""
    seed: int = 0
    """Of the bootstrap."""
    answers: int = Field(10, ge=0, le=100)
    """Tasks whose answers are shown side by side on the page."""
    aspects: AspectsConfig = AspectsConfig()


class StageConfig(Config):
    """The sections of params.yaml that stage `report` reads."""

    report: ReportConfig
    turns: dict[str, Turn]
    models: dict[str, Model]
