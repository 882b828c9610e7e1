"""Settings of ORPO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.objectives import ObjectiveSpec
from tasks.methods.objectives._pairs import FAULTS, NEEDS, PairsConfig


class OrpoConfig(PairsConfig):
    """The `methods.orpo` section."""

    weight: float = Field(0.1, gt=0)
    """lambda, the weight of the odds ratio (`beta` in TRL)."""


SPEC = ObjectiveSpec(
    config=OrpoConfig,
    table=FAULTS,
    of_answers=True,
    auxiliary_gradient=True,
    needs=NEEDS,
    weighs="gives every token with a loss the weight 1, and adds a loss of whole answers",
)
