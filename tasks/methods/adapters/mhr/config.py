"""Settings of MHR, and the facts about it that need no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.adapters import AdapterSpec


class MhrConfig(Config):
    """The `methods.mhr` section."""

    rank: int = Field(1, ge=1)
    """Inner width of each skill, and of each task's change."""
    skills: int = Field(8, ge=1)
    """Skills of each layer. All tasks share them."""
    heads: int = Field(64, ge=1)
    """Parts of a layer's input and output, for each of which a task has its own mixture; the number divides both. 1 is Polytropon."""
    alpha: float = Field(1.0, gt=0)
    """The change is scaled by alpha / rank."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    routing_rate: float = Field(100.0, gt=0)
    """Learning rate of the routing, as a multiple of the optimizer's. The paper has 0.1 for routing and 0.001 for skills."""
    adapt: Literal["mhr", "z", "mu"] = "mhr"
    """The trained part of the adapter. `mhr`: skills and routing; `z`: routing alone; `mu`: the mean of the skills. `z` and `mu` start from an
    adapter that `tune.start` names."""


SPEC = AdapterSpec(
    config=MhrConfig,
    of_rows=True,
    merges=False,
    linear=("B_QERO",),
    undecayed=("Z_KQE",),
    held=("tasks_K", "A_QEIR", "B_QERO"),
    phases=("adapt",),
    no_lora="Each task has its own change of the weights, and a LoRA is one change; `ratchet delta ADAPTER --task NAME` writes that of one task.",
)
