"""Settings of ADEPT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.expanders import ExpanderSpec


class AdeptConfig(Config):
    """The `methods.adept` section."""

    layers: int = Field(4, ge=1)
    """Layers k to copy: those whose skipping raises the probe's loss least. The loss is a mean over tokens, the authors' one over
    batches."""
    interval: int = Field(500, ge=0)
    """Steps T between two looks at the units; until the first all learn alike. With 0 they always do. A training of no more steps than T is
    refused."""
    normalisation: Literal["grad_pro", "plain"] = "plain"
    """Units that a unit's importance is measured against. `plain`, as in the authors' trainer: all. `grad_pro`, from a file that their
    trainer does not import: all for a norm, and for any other unit those that are no norms."""


SPEC = ExpanderSpec(config=AdeptConfig, acts_between_steps=True, group_each=True)
