"""Settings of MoSL, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec
from tasks.methods.adapters._split_config import Share


class MoslConfig(Config):
    """The `methods.mosl` section."""

    rank: int = Field(16, ge=1)
    """Inner width."""
    parts: int = Field(4, ge=1, le=255)
    """Number E of parts of a split matrix. 1 is plain LoRA: the control."""
    share: Share = "down"
    """The matrix that is not split: `down` is A, `up` is B; with `none` both are split."""
    scale: float = Field(1.0, gt=0)
    """The update is scaled by it."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout between A and B."""
    targets: tuple[str, ...] | str = ("q_proj", "v_proj")
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""


SPEC = AdapterSpec(
    config=MoslConfig,
    of_rows=True,
    merges=True,
    linear=("up",),
    held=("start_OI", "part_OI"),
    acts_between_steps=True,
    alone="parts that a step has not drawn have no gradient",
)
