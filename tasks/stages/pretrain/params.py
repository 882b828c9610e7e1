"""The `pretrain` section: what trains on the corpora, and how long."""

from typing import Any

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
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


class PretrainParams(Training):
    """Continued pretraining on the domain's corpus. Forgetting is measured on the general corpus."""

    adapter: str = "none"
    """A folder of `tasks/methods/adapters`; it is merged at the end."""
    max_tokens: int = Field(0, ge=0)
    """Training ends after this many tokens. With 0 the base passes through as it is."""
    replay: float = Field(0.0, ge=0, lt=1)
    """Share of the trained tokens that are of the general corpus."""
    probe_tokens: int = Field(4_000, ge=0)
    """About this many tokens of the general corpus are what methods may look at (ADEPT's probes). They train nothing. With 0
    methods look at the first pack that trains."""


class Settings(Params):
    """What stage `pretrain` reads of params.yaml."""

    compute: Compute
    pretrain: PretrainParams
    methods: dict[str, dict[str, Any]]
    """The sections of the parts."""
