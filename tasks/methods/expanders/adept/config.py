"""Settings of ADEPT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.expanders import ExpanderSpec


class AdeptConfig(Config):
    """The `methods.adept` section."""

    layers: int = Field(4, ge=1)
    """Number k of layers to copy: those whose skipping raises the probe's loss least. The loss is a mean over tokens; the authors' is a
    mean over batches."""
    interval: int = Field(500, ge=0)
    """Steps T between two measurements of the units. Until the first one all units have the same rate; with 0 they always do. A training
    of T steps or fewer is refused."""
    normalisation: Literal["grad_pro", "plain"] = "plain"
    """The units with which a unit's importance is compared. `plain`, as in the authors' trainer: all. `grad_pro`, from a file that their
    trainer does not import: for a norm all units, for any other unit those that are not norms."""


SPEC = ExpanderSpec(config=AdeptConfig, acts_between_steps=True, group_each=True)
