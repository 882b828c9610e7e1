"""Settings of ADEPT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.params import Params
from tasks.methods.expanders import ExpanderSpec


class AdeptConfig(Params):
    """The `methods.adept` section."""

    layers: int = Field(4, ge=1)
    """Layers k to copy."""
    interval: int = Field(500, ge=0)
    """Steps T between two looks at the units; until the first all learn alike. With 0 they always do."""
    normalisation: Literal["grad_pro", "plain"] = "grad_pro"
    """Against what a unit's importance is measured: `plain` is all units, `grad_pro` the units that are no norms but for norms."""


SPEC = ExpanderSpec(config=AdeptConfig, acts_between_steps=True, group_each=True)
