"""The `tune` section: what trains, on how much, in what portions."""

from typing import Any

from tasks.core.compute import Compute
from tasks.core.params import Params
from tasks.core.stage import Stage
from tasks.core.training import Training, parts

STAGE = Stage(
    reads={
        "base": "models/pretrained",
        "examples": "data/rounds/{item}/examples.parquet",
        "valid": "data/ingested/valid.parquet",
    },
    writes={"model": "models/tuned/{item}"},
    items="rounds",
    parts=parts("tune"),
)


class Settings(Params):
    """What stage `tune` reads of params.yaml."""

    compute: Compute
    tune: Training
    methods: dict[str, dict[str, Any]]
    """The sections of the parts."""
