"""The `compute` section: device, precision and threads, which change the bytes of every stage that runs a model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.config import Config


class Compute(Config):
    """Device and precision of models. Workers and URIs change no output, so they are environment variables."""

    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """The device models run on."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 if the device multiplies it faster (AMX, AVX512-BF16 of AMD, CUDA), else fp32."""
    threads: int = Field(2, ge=1, le=256)
    """CPU threads of one model. Another number changes the last digits of results."""
    processes: int = Field(1, ge=1)
    """Processes that share the packs of a training step (data parallelism by torchrun), one for each GPU. `resources.STAGE.nodes` spreads them over machines."""
    fsdp: bool = False
    """True if the processes also shard the weights of the model (torch's FSDP). Otherwise each holds all weights."""

    @model_validator(mode="after")
    def _fsdp_has_gpus(self) -> Self:
        if self.fsdp and self.device != "cuda":
            raise ValueError(f"fsdp: weights are shared between GPUs, and device is {self.device!r}. Set fsdp: false.")
        return self
