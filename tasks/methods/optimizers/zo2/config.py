"""Settings of ZO2, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.optimizers import OptimizerSpec
from tasks.methods.optimizers._mezo_config import StepsConfig


class Zo2Config(StepsConfig):
    """The `methods.zo2` section: MeZO's settings, and the memory that blocks may take."""

    resident_mb: float | None = Field(None, gt=0)
    """MB (10^6 bytes) that blocks may take in memory at a time. Null is enough for three blocks. With less, blocks wait for each other; with
    more, the first blocks stay in memory. No byte of the result depends on it."""


SPEC = OptimizerSpec(
    config=Zo2Config,
    gradient_free=True,
    streams=True,
    of_rows=True,
    alone="two passes are under way at a time, and DDP follows one",
)
