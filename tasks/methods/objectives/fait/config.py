"""Settings of FAIT, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.core.records import FaultPair
from tasks.core.sequences import Column
from tasks.methods.objectives import ObjectiveSpec, Table
from tasks.methods.objectives.fait.column import MARKS


class FaitConfig(Config):
    """The `methods.fait` section. Every default is ours, not the paper's."""

    weighting: Literal["none", "constant", "margin", "schedule"] = "margin"
    """What lambda follows."""
    lines: float = Field(1.0, ge=0)
    """b_L, what a token on a differing line gains."""
    tokens: float = Field(1.0, ge=0)
    """b_T, what a differing token gains."""
    granularity: Literal["char", "token_id"] = "char"
    """What tells which tokens differ, within lines that do: a character of theirs, or their ids, as in FIGA
    (https://arxiv.org/abs/2311.04072). Its mark on the end of turn, which is no fault, is left out."""
    anchor_deletions: bool = True
    """Whether the token at or after a place where the wrong program has more text is a differing one. Without, such a fault marks
    the right program's line at most."""
    union: bool = False
    """Whether an example with several wrong programs trains once, with the marks of all (and s- over all of them), or once with
    each."""
    tau: float = Field(1.0, gt=0)
    """margin: how many nats make a difference."""
    refresh_every: int = Field(1, ge=1)
    """margin: with 1 it is measured in every step, by a forward pass over the wrong programs; with more, for all pairs at once
    every so many steps, and kept in between. In a step it is measured as the step trains, with dropout; at a refresh without."""
    highest: float = Field(1.0, gt=0)
    """schedule: m, lambda of the first step."""
    placement: Literal["faults", "random"] = "faults"
    """`random` deals each program's marks anew among its tokens: the control that shows whether the places matter."""


SPEC = ObjectiveSpec(
    config=FaitConfig,
    acts_between_steps=True,
    state=("seed", "share", "shares"),
    weighs="multiplies them by 1 + lambda × (`methods.fait.lines` on lines that differ from a wrong program + `methods.fait.tokens` on tokens "
    "that do); `methods.fait.weighting` says what lambda follows, and “Faults that weigh more” shows such tokens in colour",
    columns=(
        Column(
            MARKS,
            missing="weighs the marks of faults, and nothing that trains has any. "
            "Name where faults come from in `faults.sources`, or use `objective: cross_entropy`",
        ),
    ),
    table=Table("faults", FaultPair, "faults are longer than a pack, and their examples train without these marks"),
)
