"""Settings of ComPEFT, and the facts about it that need no torch."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.compressors import CompressorSpec

Density = Annotated[float, Field(gt=0, le=1)]
Alpha = Annotated[float, Field(gt=0)]


class CompeftConfig(Config):
    """The `methods.compeft` section."""

    densities: tuple[Density, ...] = Field((0.05, 0.1, 0.2, 0.3, 0.5), min_length=1)
    """Shares k of kept entries to try; a single value is used without a search. 1 keeps all signs and one magnitude; the authors' k = 100
    changes nothing, like `compressor: none` here."""
    alphas: tuple[Alpha, ...] = Field((0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), min_length=1)
    """Multiples of sigma to try; only `rule: compeft` uses them."""
    rule: Literal["compeft", "stc", "prune"] = "compeft"
    """The magnitude of a kept entry. `compeft`: alpha sigma; `stc`: the mean magnitude of kept entries; `prune`: its own."""
    scope: Literal["model", "tensor"] = "model"
    """The scope of a threshold and its sigma: the whole vector, as in the paper, or each tensor."""


SPEC = CompressorSpec(config=CompeftConfig)
