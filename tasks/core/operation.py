"""The sections `resources` and `serve`: how work is done on this machine. They change no byte of an output."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config

Backend = Literal["auto", "transformers", "vllm", "llama.cpp"]


class Resources(Config):
    """The request of one stage: it changes when the stage starts. What is available stands in the environment, since it differs between machines."""

    host: str | None = Field(None, min_length=1)
    """A machine of the hosts file that runs the stage, over SSH, or a Ray cluster; without a name, this machine. One reached by SSH runs one
    stage at a time, and the numbers below do not count there. On a cluster they do, as what the stage takes of a node."""
    cores: int | None = Field(None, ge=1)
    """Processor cores. Without a number: `compute.threads` of a stage that runs a model, times `compute.processes`; 1 of others."""
    memory_gb: float | None = Field(None, gt=0)
    """Working memory in GB. Without a number: as large a share of the machine's as that of the cores."""
    gpus: int | None = Field(None, ge=0)
    """GPUs. Without a number: `compute.processes` of a stage that runs a model on `cuda`, none of others; on each node its part of them."""
    nodes: int = Field(1, ge=1)
    """Machines that share a training, each with an equal part of `compute.processes`. They meet at RATCHET_RENDEZVOUS, and the others come by
    `ratchet join`."""
    join_s: float = Field(600, gt=0)
    """Seconds in which all nodes have to be there, at the start and after one was lost."""


class ServeConfig(Config):
    """The `serve` section of params.yaml, for `ratchet serve`."""

    backend: Backend = "auto"
    """The program that holds the weights. `auto` is llama.cpp for a model in GGUF, vLLM on `compute.device: cuda`, each where it is
    installed and takes the model, and else `transformers serve`."""
    arguments: tuple[str, ...] = ()
    """Further arguments of vLLM or of llama.cpp, `["--max-model-len", "8192"]` for instance."""
    queue: int = Field(64, ge=1)
    """The most requests that run or wait for one model. A further one is refused with status 429."""
    body_bytes: int = Field(2**20, ge=1024)
    """The largest body of a request in bytes. A larger one is refused with status 413."""
    upload_s: float = Field(10, gt=0)
    """Seconds that a client may take to send its request, before status 408."""
    timeout_s: float = Field(600, gt=0)
    """Seconds from there to the end of the answer, waiting included, before status 504. An old champion has as long to finish."""
    log_prompts: bool = False
    """True appends the prompts that were answered to the folder `monitor.incoming`, where `ratchet monitor` looks. It says that those who
    ask have consented; a request with `"store": false` is left out all the same."""
