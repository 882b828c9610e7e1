"""The `evaluate` section: how much is measured, and how it is generated."""

from typing import Any

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage

STAGE = Stage(
    reads={
        "base": "{base}",
        "model": "{path}",
        "test": "data/ingested/test.parquet",
        "documents": "data/ingested/test_documents.parquet",
    },
    writes={"metrics": "data/metrics/{group}/{item}.json", "results": "data/results/{group}/{item}.parquet"},
    items="models",
    parts={"decoders": "evaluate.decoder"},
)


class EvaluateParams(Params):
    """How a model is measured. Batch sizes change last digits, so they are settings."""

    decoder: str = "plain"
    """A file of `tasks/methods/decoders`. With one that has helpers it is another model that is scored and writes, steered by
    the measured one: the entry whose `path` is its `base` shows that model alone."""
    domain_tokens: int = Field(30_000, ge=1)
    """Held-out examples are scored up to about this many tokens, prompts included."""
    text_tokens: int = Field(10_000, ge=1)
    """Held-out documents of the domain, and as many of general text, are scored up to this many tokens."""
    max_tokens: int = Field(768, ge=16)
    """Longest sequence that is scored: longer examples are left out and counted, documents are cut."""
    pass_items: int = Field(64, ge=0)
    """Held-out tasks with tests for which the model writes an answer. 0 leaves pass@1 out."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest answer."""
    batch_size: int = Field(32, ge=1)
    """Answers that are written together."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the intervals."""
    seed: int = 0
    """Of the bootstrap, and of the choice where not everything is measured."""


class Settings(Params):
    """What stage `evaluate` reads of params.yaml."""

    compute: Compute
    evaluate: EvaluateParams
    methods: dict[str, dict[str, Any]]
    """The section of the decoder."""
