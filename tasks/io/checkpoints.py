"""Models on disk: Hugging Face folders with safetensors, and `ratchet.json` beside the weights that says where they came from."""

import json
from pathlib import Path
from typing import Any

from tasks.io import provenance

CARD = "ratchet.json"
ADAPTER = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def load(path: Path, base: Path | None = None, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """The model at `path` and its tokenizer, in evaluation mode.

    An adapter is loaded onto `base`. Raises ValueError where it was trained on other weights than the base's, and where the
    folder lacks weights as safetensors or a tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM

    plain = path if not is_adapter(path) else base
    if plain is None:
        raise ValueError(f"{path} is an adapter: name the model it was trained on.")
    check_folder(plain)
    model = AutoModelForCausalLM.from_pretrained(
        plain, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    if is_adapter(path):
        _check_parent(path, plain)
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(path), use_safetensors=True).merge_and_unload()
    return model.to(device).eval(), load_tokenizer(plain)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer in a model's folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)


def is_adapter(path: Path) -> bool:
    """Whether the folder holds an adapter rather than a whole model."""
    return (path / ADAPTER).is_file()


def check_folder(path: Path) -> None:
    """Raise ValueError naming what the model folder at `path` lacks."""
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} is no model folder: config.json is missing.")
    if not list(path.glob("*.safetensors")):
        others = [file.name for file in path.glob("*.bin")]
        found = (
            f"found {', '.join(others)}, which can run code when it is opened; convert it" if others else "found none"
        )
        raise ValueError(f"{path} has no weights as .safetensors: {found}.")
    if not (path / "tokenizer.json").is_file():
        raise ValueError(
            f"{path} has no tokenizer.json. Save the tokenizer beside the weights (`tokenizer.save_pretrained`)."
        )


def write_card(path: Path, **facts: Any) -> None:
    """Write `ratchet.json`: the given facts, the hash of the weights, and the class of machine that made them."""
    card = facts | {"weights": weights_digest(path), "machine": provenance.machine_class()}
    (path / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_card(path: Path) -> dict[str, Any]:
    """What `ratchet.json` says; empty for a folder that Ratchet did not make."""
    file = path / CARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def weights_digest(path: Path) -> str:
    """One hash of all safetensors in a folder."""
    return provenance.facts_digest({file.name: provenance.digest(file) for file in sorted(path.glob("*.safetensors"))})


def _check_parent(path: Path, base: Path) -> None:
    expected = read_card(path).get("parent")
    found = read_card(base).get("weights")
    if expected and found and expected != found:
        raise ValueError(
            f"{path} was trained on weights {expected[:12]}, but {base} holds {found[:12]}. Name the base it was trained on."
        )
