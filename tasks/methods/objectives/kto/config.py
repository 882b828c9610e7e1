"""Settings of KTO, and the facts about it that need no torch."""

from pydantic import Field

from tasks.methods.objectives import DESIRABLE, REFERENCE, WHOLE_ANSWERS, ObjectiveSpec
from tasks.methods.objectives._pairs import FAULTS, PairsConfig


class KtoConfig(PairsConfig):
    """The `methods.kto` section."""

    beta: float = Field(0.1, gt=0)
    """The weight of the log-ratios: the larger, the closer the model stays to the reference."""
    desirable_weight: float = Field(1.0, gt=0)
    """w+, the weight of desirable answers. In the paper, w+ times their number is 1 to 4/3 times w- times the number of undesirable ones."""
    undesirable_weight: float = Field(1.0, gt=0)
    """w-, the weight of undesirable answers."""


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
