"""Settings of OFT, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class OftConfig(Config):
    """The `methods.oft` section."""

    block_size: int = Field(32, ge=2)
    """Width of a block of R. It divides the inputs of every target."""
    block_share: bool = False
    """Use the same block at all places on the diagonal."""
    eps: float | None = Field(None, gt=0)
    """COFT: the norm of each Q is at most eps / √r, 6e-5 in the paper's code; null leaves R free."""
    neumann: bool = False
    """Replace the inverse by five terms of its series, as OFTv2 does: faster, only nearly orthogonal, and rotating in the opposite direction."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(config=OftConfig, merges=True, wraps="peft.OFTConfig")
