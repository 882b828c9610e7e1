"""The `diagnose` section: how much is looked at, and how the model is asked about its own examples."""

from typing import Any, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage
from tasks.core.writing import Decoding

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "tuned": "models/tuned/{prev}",
        "examples": "data/rounds/{prev}/examples.parquet",
        "embedder": "models/embedder",
    },
    writes={
        "signals": "data/rounds/{item}/signals.parquet",
        "diagnosis": "data/rounds/{item}/diagnosis.json",
    },
    items="turns",
    parts={"curators": "diagnose.curator"},
)


class Judging(Decoding):
    """How the model answers in words."""

    temperature: float = Field(0.1, gt=0)
    top_p: float = Field(0.7, gt=0, le=1)
    max_new_tokens: int = Field(12, ge=1)
    """Longest answer. The score comes first; nobody reads what follows."""


class DiagnoseParams(Params):
    """What the model that was trained on the examples makes of them."""

    curator: str = "middo"
    """A folder of `tasks/methods/curators`: which signals set an example apart."""
    max_tokens: int = Field(1_000_000_000, ge=1)
    """Examples are looked at, in an order drawn from the seed, until they have about this many tokens. The others stay as they are."""
    encoder: Literal["tuned", "embedder"] = "tuned"
    """Whose vectors tell which prompts are near each other: the tuned model's hidden states, as in the paper, or `fetch.embedder`'s."""
    exact_up_to: int = Field(100_000, ge=1)
    """With more examples than these, neighbours are looked up in an index that may miss some."""
    quality: Literal["none", "readout", "generate"] = "readout"
    """How the tuned model judges: not at all, by the odds of the digits that its answer may begin with (one forward pass an
    example), or in words, as in the paper (six answers an example)."""
    compare: int = Field(0, ge=0)
    """With `readout`: so many examples are judged in words too, to tell how far the two agree."""
    judging: Judging = Judging()
    seed: int = 0
    """Of the order in which examples are looked at, and of the answers."""


class Settings(Params):
    """What stage `diagnose` reads of params.yaml."""

    compute: Compute
    diagnose: DiagnoseParams = DiagnoseParams()
    methods: dict[str, dict[str, Any]]
    """The section of the curator."""
