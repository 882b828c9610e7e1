"""The `diagnose` section: the examples or fresh tasks on which a tuned model is measured, and the method of measuring."""

from typing import Any, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.config import Config
from tasks.core.stage import Stage
from tasks.core.text.writing import Decoding

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned/{prev}",
        "examples": "data/rounds/{prev}/examples.parquet",
        "embedder": "models/embedder",
        "ingested": "data/ingested",
    },
    writes={
        "signals": "data/rounds/{item}/signals.parquet",
        "probes": "data/rounds/{item}/probes.parquet",
        "diagnosis": "data/rounds/{item}/diagnosis.json",
    },
    items="turns",
    parts={"curators": "diagnose.curator"},
)


class Judging(Decoding):
    """Generation of the judge's answers."""

    temperature: float = Field(0.1, gt=0)
    top_p: float = Field(0.7, gt=0, le=1)
    max_new_tokens: int = Field(12, ge=1)
    """Longest answer. The score comes first; the rest is ignored."""


class Probing(Config):
    """Fresh tasks that the tuned model answers greedily."""

    each: int = Field(40, ge=1)
    """Tasks of each kind that sources generate."""
    max_new_tokens: int = Field(24, ge=1)
    """Longest answer."""
    batch_size: int = Field(32, ge=1)
    """Answers in a batch."""


class DiagnoseConfig(Config):
    """Diagnosis of examples by the model that was trained on them, or of that model by fresh tasks."""

    curator: str = "middo"
    """A folder of `tasks/methods/curators`: by signals of each example (`middo`), or by failures at fresh tasks (`failures`)."""
    probes: Probing = Probing()
    """For a curator that looks at tasks; the settings below are for one that looks at examples."""
    max_tokens: int = Field(1_000_000_000, ge=1)
    """Examples are diagnosed in an order drawn from the seed, up to about this many tokens. The others stay as they are."""
    encoder: Literal["tuned", "embedder"] = "tuned"
    """Model that embeds prompts for the search of neighbours: the tuned model (hidden states, as in the paper) or
    `fetch.embedder`."""
    exact_up_to: int = Field(100_000, ge=1)
    """With more examples than this, neighbours are found by an approximate index, which may miss some."""
    quality: Literal["none", "readout", "generate"] = "readout"
    """Judging by the tuned model: `none`; `readout`, by the odds of an answer's first digit (one forward pass for each example); or
    `generate`, by generated answers, as in the paper (six for each example)."""
    compare: int = Field(0, ge=0)
    """With `readout`: number of examples judged by `generate` too, to measure the agreement of the two."""
    judging: Judging = Judging()
    seed: int = 0
    """Seed of the order of examples, of answers, and of fresh tasks."""


class StageConfig(Config):
    """Sections of params.yaml that stage `diagnose` reads."""

    compute: Compute
    diagnose: DiagnoseConfig = DiagnoseConfig()
    methods: dict[str, dict[str, Any]]
    """The section of the curator."""
