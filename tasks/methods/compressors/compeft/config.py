"""Settings of ComPEFT, and what is known of it without torch."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.config import Params
from tasks.methods.compressors import CompressorSpec

Density = Annotated[float, Field(gt=0, le=1)]


Alpha = Annotated[float, Field(gt=0)]


class CompeftConfig(Params):
    """The `methods.compeft` section."""

    densities: tuple[Density, ...] = Field((0.05, 0.1, 0.2, 0.3, 0.5), min_length=1)
    """Shares k of the entries to try keeping. One is taken as it is."""
    alphas: tuple[Alpha, ...] = Field((0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0), min_length=1)
    """Multiples of sigma to try; `rule: compeft` alone has them."""
    rule: Literal["compeft", "stc", "prune"] = "compeft"
    """What a kept entry becomes: alpha sigma, the mean magnitude of what is kept (STC), or itself (prune only)."""
    scope: Literal["model", "tensor"] = "model"
    """What shares one threshold and one sigma: the whole vector, as in the paper, or each tensor."""


SPEC = CompressorSpec(config=CompeftConfig)
