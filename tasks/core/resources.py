"""The `resources` section: what a stage requests of the machine. It changes when stages start, and no byte of their outputs."""

from pydantic import Field

from tasks.core.config import Config


class Resources(Config):
    """The request of one stage. What is available stands in the environment, since it differs between machines."""

    cores: int | None = Field(None, ge=1)
    """Processor cores. Without a number: `compute.threads` of a stage that runs a model, times `compute.processes`; 1 of others."""
    memory_gb: float | None = Field(None, gt=0)
    """Working memory in GB. Without a number: as large a share of the machine's as that of the cores."""
    gpus: int | None = Field(None, ge=0)
    """GPUs. Without a number: `compute.processes` of a stage that runs a model on `cuda`, none of others."""
