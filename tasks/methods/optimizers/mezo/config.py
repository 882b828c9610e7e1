"""Settings of MeZO, and the facts about it that need no torch."""

from tasks.methods.optimizers import OptimizerSpec
from tasks.methods.optimizers._mezo_config import StepsConfig


class MezoConfig(StepsConfig):
    """The `methods.mezo` section."""


SPEC = OptimizerSpec(config=MezoConfig, gradient_free=True)
