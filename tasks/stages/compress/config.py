"""The `compress` section: the model, the method, and the data for the loss."""

from typing import Any

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned",
        "selection": "data/selection.json",
        "valid": "data/ingested/valid.parquet",
    },
    writes={"model": "models/compressed", "metrics": "data/metrics/compression.json"},
    parts={"compressors": "compress.compressor"},
)


class CompressConfig(Config):
    """Compression of a tuned model. `none` leaves it as it is."""

    compressor: str = "none"
    """A folder of `tasks/methods/compressors`."""
    round: str = "best"
    """The round whose model is compressed: a name, or `best` for the round that stage `select` chose."""
    valid_tokens: int = Field(4_000, ge=1)
    """Tokens of the validation set on which the loss is measured: before, after, and of every candidate of the method."""
    max_tokens: int = Field(768, ge=16)
    """Longest validation example in tokens; longer ones are left out."""


class StageConfig(Config):
    """Sections of params.yaml that stage `compress` reads."""

    compute: Compute
    compress: CompressConfig
    methods: dict[str, dict[str, Any]]
    """The section of the compressor."""
