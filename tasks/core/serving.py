"""Settings of `ratchet serve`: section `serve` of params.yaml, which no stage reads."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config

Backend = Literal["auto", "transformers", "vllm", "llama.cpp"]


class ServeConfig(Config):
    """The `serve` section of params.yaml. What it says changes no byte of a result."""

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
