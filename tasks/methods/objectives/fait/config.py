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
    """The rule for lambda (see the equations)."""
    lines: float = Field(1.0, ge=0)
    """b_L, the additional weight of a token on a differing line."""
    tokens: float = Field(1.0, ge=0)
    """b_T, the additional weight of a differing token."""
    granularity: Literal["char", "token_id"] = "char"
    """The unit of comparison within differing lines: characters, or ids of tokens as in FIGA
    (https://arxiv.org/abs/2311.04072). FIGA's mark on the end of turn, which is not a fault, is left out."""
    anchor_deletions: bool = True
    """Count the token at or after a place where the wrong program has additional text as differing. If false, such a fault marks at most
    the line of the right program."""
    union: bool = False
    """Train an example with several wrong programs once, with the marks of all (and s- over all of them). If false, it trains once with
    each."""
    tau: float = Field(1.0, gt=0)
    """margin: the scale of s- - s+, in nats."""
    refresh_every: int = Field(1, ge=1)
    """margin: with 1 lambda is measured in every step, by a forward pass over the wrong programs, with dropout as in training. With more it
    is measured for all pairs at once, every so many steps, without dropout, and kept in between."""
    highest: float = Field(1.0, gt=0)
    """schedule: m, the lambda of the first step."""
    placement: Literal["faults", "random"] = "faults"
    """`random` shuffles each program's marks among its tokens: the control that shows whether the places matter."""


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
