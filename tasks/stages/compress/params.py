"""The `compress` section: which model is compressed, how, and on what the loss is measured."""

from typing import Any

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
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


class CompressParams(Params):
    """What is stored in fewer bytes. `none` leaves the tuned model as it is."""

    compressor: str = "none"
    """A folder of `tasks/methods/compressors`."""
    round: str = "best"
    """The round whose model is compressed: a name, or `best` for the one that stage `select` chose."""
    valid_tokens: int = Field(4_000, ge=1)
    """Validation loss, before, after, and of every candidate of a method that has several, is measured on about this many
    tokens."""
    max_tokens: int = Field(768, ge=16)
    """Longer examples are left out of it."""


class Settings(Params):
    """What stage `compress` reads of params.yaml."""

    compute: Compute
    compress: CompressParams
    methods: dict[str, dict[str, Any]]
    """The section of the compressor."""
