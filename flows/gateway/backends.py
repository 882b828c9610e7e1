"""Build the command line of each backend, a program that holds weights and offers OpenAI's API. All listen only on a Unix socket."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.execution import workspace
from flows.gateway.requests import Fields
from flows.gateway.served_models import ServedModel
from tasks.configuration import PipelineConfig
from tasks.io.system import files
from tasks.io.weights import checkpoints, compressed

LORAS = workspace.SCRATCH / "serve/loras"
"""The folder in which vLLM's filesystem resolver looks for adapters: one subfolder for each served name."""
BASES = workspace.SCRATCH / "serve/bases"
"""Links to the bases of adapters, named by the hash of their weights: versions keep copies of a base, but a worker needs one path."""
ADAPTER = "adapter_model.safetensors"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
UNTRACKED = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
_READ = (
    "model",
    "stream",
    "temperature",
    "top_p",
    "seed",
    "generation_config",
    "max_tokens",
    "frequency_penalty",
    "stop",
)
_WITHOUT_EFFECT = ("stream_options", "user")
FIELDS_OF_TRANSFORMERS: Fields = {
    "chat/completions": {
        **dict.fromkeys(_READ + _WITHOUT_EFFECT),
        **dict.fromkeys(("messages", "tools", "chat_template_kwargs", "logit_bias", "max_completion_tokens")),
        **dict.fromkeys(("metadata", "safety_identifier", "service_tier")),
        **dict.fromkeys(("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention")),
        "function_call": ("auto", "none"),
        "functions": ([],),
        "logprobs": (False,),
        "modalities": (["text"],),
        "n": (1,),
        "parallel_tool_calls": (True,),
        "presence_penalty": (0,),
        "response_format": ({"type": "text"},),
        "tool_choice": ("auto",),
        "top_logprobs": (0,),
        "verbosity": ("medium",),
    },
    "completions": {
        **dict.fromkeys(_READ + _WITHOUT_EFFECT),
        **dict.fromkeys(("prompt",)),
        "best_of": (1,),
        "echo": (False,),
        "logit_bias": ({},),
        "n": (1,),
        "presence_penalty": (0,),
    },
}
"""The fields that `transformers serve` reads, and those that need no effect. It ignores all other fields with only a line in its log."""


@dataclass(frozen=True)
class Launch:
    """The way a backend serves a model."""

    key: str
    """Models with the same key share a worker."""
    command: Callable[[Path], list[str]]
    """Returns the command line for a socket."""
    concurrency: int
    """Requests that it computes at once. More would wait inside the backend, which does not notice that a client has disconnected."""
    environment: Mapping[str, str] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    """The fields that it honours; empty if it refuses other fields itself."""


def choose(model: ServedModel, config: PipelineConfig) -> Launch:
    """Return the launch of a model by the backend of the config. Raises ValueError if that backend cannot serve it here."""
    wanted = config.serve.backend
    if wanted == "auto":
        on_gpu = config.compute.device == "cuda"
        if model.gguf and shutil.which("llama-server"):
            return _llama_cpp(model, config)
        if on_gpu and shutil.which("vllm") and not _vllm_refusal(model):
            return _vllm(model, config)
        return _transformers(model)
    if wanted == "vllm":
        _need("vllm", "pip install vllm")
        if refusal := _vllm_refusal(model):
            raise ValueError(f"serve.backend: vllm cannot serve {model.folder}: {refusal}. Set it to auto.")
        return _vllm(model, config)
    if wanted == "llama.cpp":
        _need("llama-server", "build it from https://github.com/ggml-org/llama.cpp")
        if not model.gguf:
            raise ValueError(
                f"serve.backend: llama.cpp serves GGUF, and {model.folder} holds none. Set it to auto, or `compress.compressor: gguf`."
            )
        return _llama_cpp(model, config)
    return _transformers(model)


def _need(program: str, remedy: str) -> None:
    if not shutil.which(program):
        raise ValueError(f"serve.backend: {program} is not on the PATH. Get it ({remedy}), or set backend: auto.")


def _transformers(model: ServedModel) -> Launch:
    """Return the launch by `transformers serve`, which loads a model as Ratchet does: merged, dequantised, checked against its base.

    The adapters of a bank share a worker, which holds their base once.
    """
    if importlib.util.find_spec("openai") is None:
        raise ValueError(
            'The package `openai` is missing, which `transformers serve` needs: pip install -e ".[serve]" -c constraints.txt'
        )

    bank = model.folder.parent
    name, folder = ("bank", bank) if checkpoints.is_bank(bank) else (model.name, model.folder)

    def command(socket: Path) -> list[str]:
        base = [str(model.base)] if model.base else []
        return [sys.executable, "-m", "tasks.model_worker", name, str(socket), str(folder), *base]

    key = f"{bank} {checkpoints.read_card(bank)['weights']}" if folder == bank else name
    return Launch(key, command, 1, OFFLINE, FIELDS_OF_TRANSFORMERS)


def _llama_cpp(model: ServedModel, config: PipelineConfig) -> Launch:
    slots = 4

    def command(socket: Path) -> list[str]:
        options = [
            "--jinja",
            "--no-ui",
            "--offline",
            "--parallel",
            str(slots),
            "--threads",
            str(config.compute.threads),
        ]
        place = ["--model", str(model.gguf), "--alias", model.name, "--host", str(socket)]
        return ["llama-server", *place, *options, *config.serve.arguments]

    return Launch(model.name, command, slots)


def _vllm(model: ServedModel, config: PipelineConfig) -> Launch:
    """Return the launch by vLLM. A LoRA shares the worker of its base, in which the filesystem resolver finds it by its name.

    A name always keeps its bytes, because a name that is loaded again would use cached prefixes of the earlier adapter
    (https://github.com/vllm-project/vllm/issues/42125).
    """
    name, weights, options, environment = model.name, model.folder.absolute(), [], OFFLINE | UNTRACKED
    if model.base:
        rank = _lora_rank(model.folder)
        weights = _linked(model.base)
        name = f"base@{weights.name}"
        _offer(model, weights)
        options = ["--enable-lora", "--max-lora-rank", str(rank)]
        environment |= {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_PLUGINS": "lora_filesystem_resolver",
            "VLLM_LORA_RESOLVER_CACHE_DIR": str(LORAS.resolve()),
        }
    options = ["--served-model-name", name, *options, *config.serve.arguments]

    def command(socket: Path) -> list[str]:
        return ["vllm", "serve", str(weights), "--uds", str(socket), *options]

    return Launch(" ".join([str(weights), *options]), command, 256, environment)


def _vllm_refusal(model: ServedModel) -> str:
    """Return the reason why vLLM cannot serve a model; empty if it can."""
    if checkpoints.is_compressed(model.folder) or (model.folder / compressed.DELTA).is_file():
        return "it is compressed"
    if not checkpoints.is_adapter(model.folder):
        return ""
    card = _adapter_card(model.folder)
    if card.get("peft_type") != "LORA" or card.get("use_dora"):
        return "its adapter is no LoRA"
    recorded = checkpoints.read_card(model.folder).get("method", {}).get("base", "none")
    return "" if recorded == "none" else f"its base is quantised by {recorded}"


def _offer(model: ServedModel, base: Path) -> None:
    """Put a LoRA where the resolver looks: a folder of its name with links to its files, and a card that names the served base.

    The resolver refuses symbolic links that lead out of its folder, and adapters whose base is another path than the worker's.
    """
    folder = LORAS / model.name
    if _adapter_card(folder).get("base_model_name_or_path") == str(base):
        return
    card = _adapter_card(model.folder) | {"base_model_name_or_path": str(base)}
    with files.atomic_path(folder) as partial:
        partial.mkdir(parents=True)
        try:
            os.link((model.folder / ADAPTER).resolve(), partial / ADAPTER)
        except OSError:  # the file system has no links
            shutil.copyfile(model.folder / ADAPTER, partial / ADAPTER)
        (partial / checkpoints.PEFT_ADAPTER).write_text(json.dumps(card, indent=1), encoding="utf-8")


def _adapter_card(folder: Path) -> dict[str, Any]:
    path = folder / checkpoints.PEFT_ADAPTER
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _lora_rank(folder: Path) -> int:
    """Return the smallest rank with kernels in vLLM that covers all ranks of an adapter."""
    card = _adapter_card(folder)
    rank = max([card["r"], *card.get("rank_pattern", {}).values()])
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


def _linked(base: Path) -> Path:
    """Return a link to a base that is the same for every copy of the base."""
    digest = checkpoints.read_card(base).get("weights") or checkpoints.weights_digest(base)
    link = (BASES / str(digest)[:8]).absolute()
    if not link.exists():
        with files.atomic_path(link) as partial:
            partial.symlink_to(base.resolve())
    return link
