"""Write MLflow's description of a stored model beside its weights, so that `mlflow.transformers.load_model` and `mlflow models serve` open it.

A folder with `model/`, and `base/` if the model is an adapter, gets `MLmodel` and `components/tokenizer/`. No weights are copied or loaded.
Classes are named as `Auto…`, for which MLflow does not run code from the folder.
"""

import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from tasks.io.system import files
from tasks.io.weights import checkpoints

DESCRIPTION = "MLmodel"
REQUIREMENTS = "requirements.txt"
PACKAGES = ("mlflow", "torch", "transformers", "accelerate", "peft")
TOKENIZER = Path("components/tokenizer")
TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    checkpoints.NAMED_TEMPLATES,
    "config.json",
)
TASK, CHAT = "text-generation", "llm/v1/chat"


def describe(folder: Path) -> bool:
    """Write the files that MLflow reads, and return True. Return False if MLflow cannot open the model in `folder`.

    MLflow cannot open an adapter that is not peft's, an adapter of a quantised base (MLflow would apply it to plain weights), a compressed model,
    and a version of which only the evidence is left.
    """
    model = folder / "model"
    is_adapter = checkpoints.is_adapter(model)
    plain = folder / "base" if is_adapter else model
    if checkpoints.is_compressed(model) or not (plain / "config.json").is_file():
        return False
    if is_adapter and (not (model / checkpoints.PEFT_ADAPTER).is_file() or checkpoints.base_method(model) != "none"):
        return False
    if not (folder / DESCRIPTION).is_file():
        _link_tokenizer(plain, folder / TOKENIZER)
        # Without a local label such as `+cpu`, which the package index does not know.
        lines = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in PACKAGES]
        (folder / REQUIREMENTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        # The last file, whose presence means that the others are complete.
        files.write_atomically(folder / DESCRIPTION, _description(plain, f"ratchet@{folder.name}"))
    return True


def _description(plain: Path, name: str) -> str:
    """Return the text of `MLmodel` (https://mlflow.org/docs/latest/ml/model/) for a model whose whole weights are in `plain`.

    `name` is the model name in its answers.
    """
    adapter = {} if plain.name == "model" else {"peft_adaptor": "model"}
    transformers: dict[str, Any] = {
        "task": TASK,
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": "AutoModelForCausalLM",
        "source_model_name": name,
        "model_binary": plain.name,
        "components": ["tokenizer"],
        "tokenizer_type": "AutoTokenizer",
        "transformers_version": metadata.version("transformers"),
        **adapter,
    }
    description: dict[str, Any] = {
        "mlflow_version": metadata.version("mlflow"),
        "flavors": {
            "transformers": transformers,
            "python_function": {
                "loader_module": "mlflow.transformers",
                "python_version": platform.python_version(),
            },
        },
    }
    if _has_chat_template(plain):
        from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

        transformers["inference_task"] = CHAT
        schemas = {"inputs": CHAT_MODEL_INPUT_SCHEMA, "outputs": CHAT_MODEL_OUTPUT_SCHEMA}
        description["metadata"] = {"task": CHAT}
        description["signature"] = {side: json.dumps(schema.to_dict()) for side, schema in schemas.items()}
    return yaml.safe_dump(description, sort_keys=False)


def _has_chat_template(plain: Path) -> bool:
    config = plain / "tokenizer_config.json"
    return (plain / "chat_template.jinja").is_file() or (
        config.is_file() and "chat_template" in json.loads(config.read_text(encoding="utf-8"))
    )


def _link_tokenizer(plain: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in TOKENIZER_FILES:
        for path in plain.glob(pattern):
            link = target / path.relative_to(plain)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(os.path.relpath(path, link.parent))
