"""Settings of DPO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.objectives import REFERENCE, WHOLE_ANSWERS, ObjectiveSpec
from tasks.methods.objectives._pairs import FAULTS, NEEDS, PairsConfig


class DpoConfig(PairsConfig):
    """The `methods.dpo` section."""

    beta: float = Field(0.1, gt=0)
    """The weight of the log-ratios: the larger, the closer the model stays to the reference."""


SPEC = ObjectiveSpec(
    config=DpoConfig,
    columns=(REFERENCE,),
    table=FAULTS,
    of_answers=True,
    auxiliary_gradient=True,
    reference=True,
    needs=NEEDS,
    weighs=WHOLE_ANSWERS,
)
