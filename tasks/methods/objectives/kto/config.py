"""Settings of KTO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.objectives import DESIRABLE, REFERENCE, WHOLE_ANSWERS, ObjectiveSpec
from tasks.methods.objectives._pairs import FAULTS, PairsConfig


class KtoConfig(PairsConfig):
    """The `methods.kto` section."""

    beta: float = Field(0.1, gt=0)
    """The weight of the log-ratios: the larger, the more the model is held to the reference."""
    desirable_weight: float = Field(1.0, gt=0)
    """w+; the paper keeps w+ times desirable answers between 1 and 4/3 of w- times undesirable ones."""
    undesirable_weight: float = Field(1.0, gt=0)
    """w-."""


SPEC = ObjectiveSpec(
    config=KtoConfig,
    columns=(REFERENCE, DESIRABLE),
    table=FAULTS,
    of_answers=True,
    reference=True,
    needs="learns from judged answers, and no example has a judgement. Bring rows with `prompt`, `completion` and `label`, or pairs "
    "with `chosen` and `rejected`, or use `objective: cross_entropy`",
    weighs=WHOLE_ANSWERS,
)
