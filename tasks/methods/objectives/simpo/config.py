"""Settings of SimPO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.objectives import WHOLE_ANSWERS, ObjectiveSpec
from tasks.methods.objectives._pairs import FAULTS, NEEDS, PairsConfig


class SimpoConfig(PairsConfig):
    """The `methods.simpo` section."""

    beta: float = Field(2.0, gt=0)
    """The scale of the difference."""
    gamma: float = Field(1.0, ge=0)
    """The margin by which the better answer has to win."""


SPEC = ObjectiveSpec(
    config=SimpoConfig, table=FAULTS, of_answers=True, auxiliary_gradient=True, needs=NEEDS, weighs=WHOLE_ANSWERS
)
