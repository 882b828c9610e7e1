"""The `pretrain` section: the method of training on the corpora, and its length."""

from typing import Any, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.training import Training, parts

STAGE = Stage(
    reads={
        "base": "models/base",
        "train": "data/ingested/train_documents.parquet",
        "valid": "data/ingested/valid_documents.parquet",
    },
    writes={"model": "models/pretrained"},
    parts=parts("pretrain"),
)


class ProbeConfig(Config):
    """The text that methods look at before the training (ADEPT, CorDA)."""

    corpus: Literal["general", "domain"] = "general"
    """The corpus from which the text is taken. Text taken from the general corpus is not trained on."""
    tokens: int = Field(4_000, ge=0)
    """Approximate number of its tokens. With 0, methods look at the first training pack."""


class PretrainConfig(Training):
    """Continued pretraining on the domain's corpus. Forgetting is measured on the general corpus."""

    adapter: str = "none"
    """A folder of `tasks/methods/adapters`; the adapter is merged at the end, unless it is one of a bank."""
    max_tokens: int = Field(0, ge=0)
    """Training ends after this many tokens. With 0 the base model is passed through unchanged."""
    replay: float = Field(0.0, ge=0, lt=1)
    """Share of the trained tokens that come from the general corpus."""
    probe: ProbeConfig = ProbeConfig()
    """The text that methods look at before the training."""
    bank: Literal["none", "domain"] = Field("none", exclude_if=lambda value: value == "none")
    """With `domain`, train a bank: one adapter for every domain of the texts (`ingest.corpora.domains`). Each is trained from the same
    base, on its domain alone, for `max_tokens`, and stored by itself in the folder `bank`. The base itself passes through unchanged."""


class StageConfig(Config):
    """Sections of params.yaml that stage `pretrain` reads."""

    compute: Compute
    pretrain: PretrainConfig
    methods: dict[str, dict[str, Any]]
    """The sections of the parts."""
