"""Settings of the shares of the data that are held out."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.core.records import Split


class Shares(Config):
    """The shares of the groups that are held out."""

    by: Literal["size", "name"] = "size"
    """`size` meets the shares of valid and test exactly, in each package or file, as far as whole groups allow; when data are added, groups
    may move between them and train. `name` decides by the hash of a group's name alone, so that no group ever changes its split; the shares
    are met on average. A row that is a group of its own is named by its prompt, so that its place does not matter."""

    valid: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)
    gate: float = Field(default=0, ge=0, lt=1)
    """The gate set decides on promotion. Without a share there is no gate set, and nothing is promoted.
    The share is met on average: the name of a group alone decides, so that a group stays in the gate set as the data grow."""

    @property
    def held_out(self) -> dict[Split, float]:
        """Return the share of each held-out split, on which nothing is trained."""
        return {"valid": self.valid, "test": self.test, "gate": self.gate}

    @property
    def of_corpora(self) -> tuple[Split, ...]:
        """Return the splits in which every corpus needs a text. `valid` may have none, since a training need not be steered by texts."""
        return ("train", "test", "gate") if self.gate else ("train", "test")

    @model_validator(mode="after")
    def _leave_something(self) -> "Shares":
        if (total := sum(self.held_out.values())) >= 1:
            raise ValueError(f"valid + test + gate = {total:g} leaves nothing to train on; they must stay below 1")
        return self
