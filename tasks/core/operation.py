"""The sections `resources` and `serve`, which say how work is done on this machine. They change no byte of an output."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config

Backend = Literal["auto", "transformers", "vllm", "llama.cpp"]


class Resources(Config):
    """The request of one stage, which decides when it starts. The available resources are environment variables, because they differ between machines."""

    host: str | None = Field(None, min_length=1)
    """The machine that runs the stage: a name in the hosts file, reached over SSH or as a Ray cluster. Without a name, it is this machine. A machine
    reached over SSH runs one stage at a time, and the numbers below are ignored. On a cluster, they are the stage's request on a node."""
    cores: int | None = Field(None, ge=1)
    """Processor cores. The default is `compute.threads` times `compute.processes` for a stage that runs a model, and 1 for other stages."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory in GB. The default is the same share of the machine's memory as that of its cores."""
    gpus: int | None = Field(None, ge=0)
    """GPUs. The default is `compute.processes` for a stage that runs a model on `cuda`, divided over its nodes, and 0 for other stages."""
    nodes: int = Field(1, ge=1)
    """Number of machines that share a training, each with an equal part of `compute.processes`. They meet at RATCHET_RENDEZVOUS. Run
    `ratchet join` on each of the others."""
    join_s: float = Field(600, gt=0)
    """Seconds within which all nodes must be present, at the start and after a node was lost."""


class ServeConfig(Config):
    """The `serve` section of params.yaml, for `ratchet serve`."""

    backend: Backend = "auto"
    """The program that holds the weights. `auto` is llama.cpp for a model in GGUF format and vLLM for `compute.device: cuda`, if it is
    installed and supports the model, and else `transformers serve`."""
    arguments: tuple[str, ...] = ()
    """Further arguments of vLLM or llama.cpp, such as `["--max-model-len", "8192"]`."""
    queue: int = Field(64, ge=1)
    """Largest number of requests that run or wait for one model. A further request is refused with status 429."""
    body_bytes: int = Field(2**20, ge=1024)
    """Largest body of a request in bytes. A larger one is refused with status 413."""
    upload_s: float = Field(10, gt=0)
    """Seconds within which a client must send its whole request; after them, the status is 408."""
    timeout_s: float = Field(600, gt=0)
    """Seconds from the end of the request to the end of the answer, including time in the queue; after them, the status is 504. A replaced champion has
    the same time to finish its answers."""
    log_prompts: bool = False
    """True appends the answered prompts to the folder `monitor.incoming`, which `ratchet monitor` reads. By setting it you state that your users
    have consented. A request with `"store": false` is left out in any case."""
