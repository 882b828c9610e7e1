"""The `tune` section: what trains, on how much, in what portions."""

from typing import Any, Literal

from pydantic import Field

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage

STAGE = Stage(
    reads={
        "base": "models/base",
        "examples": "data/rounds/{item}/examples.parquet",
        "valid": "data/ingested/valid.parquet",
    },
    writes={"model": "models/tuned/{item}"},
    items="rounds",
    parts={
        "adapters": "tune.adapter",
        "selectors": "tune.selector",
        "optimizers": "tune.optimizer",
        "objectives": "tune.objective",
    },
)


class TuneParams(Params):
    """One composition of methods and the plan of its training."""

    adapter: str = "lora"
    """A file of `tasks/methods/adapters`."""
    selector: str = "all"
    """A file of `tasks/methods/selectors`."""
    optimizer: str = "adamw"
    """A file of `tasks/methods/optimizers`."""
    objective: str = "cross_entropy"
    """A file of `tasks/methods/objectives`."""
    max_tokens: int = Field(40_000, ge=1)
    """Training ends after this many tokens, prompts included."""
    epochs: int = Field(1, ge=1)
    """Passes over the examples, if `max_tokens` allows."""
    pack_tokens: int = Field(1024, ge=16)
    """Tokens of a pack. An example that no pack can hold is left out and counted."""
    accumulation: int = Field(1, ge=1)
    """Packs of one optimizer step."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises from 0."""
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "cosine"
    """How the learning rate falls after that."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of a step's gradient."""
    valid_tokens: int = Field(6_000, ge=0)
    """Validation loss is measured on about this many tokens, before and after."""
    save_every: int = Field(20, ge=1)
    """Steps between checkpoints; an interrupted run continues from the last one."""
    workers: int = Field(0, ge=0)
    """Processes that load data."""
    seed: int = 0


class Settings(Params):
    """What stage `tune` reads of params.yaml."""

    compute: Compute
    tune: TuneParams
    methods: dict[str, dict[str, Any]]
    """The sections of the four parts."""
