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
    """Parts of a layer's input and output that a task mixes apart from one another; they divide both. 1 is Polytropon."""
    alpha: float = Field(1.0, gt=0)
    """The change is scaled by alpha / rank."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head and gates of one row."""
    routing_rate: float = Field(100.0, gt=0)
    """Routing learns at so many times the optimizer's learning rate. The paper has 0.1 against 0.001."""
    adapt: Literal["mhr", "z", "mu"] = "mhr"
    """What of an adapter trains: skills and routing; routing alone; or the mean of the skills. The latter two start from an adapter that
    `tune.start` names."""


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
