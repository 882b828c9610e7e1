"""Settings of MFTCoder, and the facts about it that need no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.methods.objectives import ObjectiveSpec


class MftcoderConfig(Config):
    """The `methods.mftcoder` section."""

    aggregation: Literal["case1", "case2", "case3", "case4"] = "case3"
    """`case1`: mean over tokens; `case2`: over examples; `case3` and `case4`: over tasks, of the mean over tokens or over examples."""
    task_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Fixed weights v of tasks, by name; 1 for tasks not named."""
    balance: Literal["none", "self_paced", "coba"] = "none"
    """The rule by which v follows the validation losses. It costs forward passes over `valid_batches` at every update."""
    interval: int = Field(1, ge=1)
    """Steps from one update to the next."""
    valid_batches: int = Field(1, ge=1)
    """Validation batches of an update, taken in turn."""
    window: int = Field(100, ge=2)
    """self_paced: the number of updates over which a slope is fitted, and the step from which on weights follow the losses. Before it they
    are equal, as in the authors' training."""
    warmup: int = Field(100, ge=1)
    """coba: steps with equal weights at the start; take about the number of validation batches."""
    history: int = Field(200, ge=2)
    """coba: updates over which a slope is fitted; 2 to 5 times the warm-up. A slope is compared with those of the last
    `history` - `warmup` + 1 updates, as in the authors' code."""
    tau: float = Field(5.0, gt=0)
    """coba: how strongly weights shift when the loss of the worst task stops falling."""

    @model_validator(mode="after")
    def _weights_are_used(self) -> Self:
        if self.aggregation in ("case1", "case2") and (self.task_weights or self.balance != "none"):
            raise ValueError(f"{self.aggregation} has no task weights: take case3 or case4, or leave the weights out")
        if self.task_weights and self.balance != "none":
            raise ValueError(f"task_weights are fixed and balance: {self.balance} makes its own: set one of them")
        if self.balance == "coba" and self.compared < 1:
            raise ValueError(
                f"history={self.history} is shorter than the warm-up, {self.warmup // self.interval} updates: raise it, best to "
                "2 to 5 times as many, or lower warmup."
            )
        return self

    @property
    def follows_validation(self) -> bool:
        """Return whether the weights of tasks follow their validation losses, so that each task has to have one."""
        return self.balance != "none"

    @property
    def compared(self) -> int:
        """Return the number of updates whose slopes coba compares, as in the authors' code."""
        return self.history - self.warmup // self.interval + 1


SPEC = ObjectiveSpec(
    config=MftcoderConfig,
    acts_between_steps=True,
    state=("task_weights",),
    weighs="multiplies them by the share of the token's task or example, as `methods.mftcoder.aggregation` says",
)
