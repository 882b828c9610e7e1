"""Settings of MoSA, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec
from tasks.methods.adapters._split_config import Share


class MosaConfig(Config):
    """The `methods.mosa` section."""

    rank: int = Field(64, ge=1)
    """Inner width."""
    parts: int = Field(4, ge=1, le=255)
    """Number E of parts of a split matrix. 1 splits nothing: the control."""
    share: Share = "down"
    """The matrix that is not split: `down` is D, `up` is U; with `none` both are split."""
    scale: float = Field(0.1, gt=0)
    """The block's output is scaled by it."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout between D and U."""


SPEC = AdapterSpec(
    config=MosaConfig,
    of_rows=True,
    merges=False,
    held=("start_OI", "part_OI"),
    acts_between_steps=True,
    alone="parts that a step has not drawn have no gradient",
    no_lora="A GELU stands between its two matrices, and the change of a LoRA is linear.",
)
