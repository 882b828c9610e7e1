"""Compare the settings of an adapter that peft made with those of a new one that continues from it."""

from pathlib import Path
from typing import Any

import peft

FREE = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *(
        "r",
        "oft_block_size",
        "target_modules",
        "target_parameters",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
    ),
    *("lora_dropout", "module_dropout", "init_weights", "runtime_config"),
}
"""Settings that do not affect what given tensors compute: the adapter's origin, settings that follow from the names and shapes of its tensors,
and settings that act only in training."""
FRESH = (True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base unchanged. All others move a part of its weights into the adapter."""


def check(folder: Path, attached: peft.PeftConfig, method: str) -> None:
    """Raise ValueError if the adapter in `folder` computes something else with its tensors than an adapter with these settings would."""
    saved, new = _deciding(peft.PeftConfig.from_pretrained(str(folder))), _deciding(attached)
    if odd := [key for key in sorted({*saved, *new}) if saved.get(key) != new.get(key)]:
        key = "peft_type" if "peft_type" in odd else odd[0]
        raise ValueError(
            f"{folder} was made with {key}: {_shown(saved, key)}, and it is {_shown(new, key)} here. Name its method in tune.adapter, and "
            f"its settings under methods.{method}, to start from this adapter."
        )


def _deciding(config: peft.PeftConfig) -> dict[str, Any]:
    """Return the settings that affect what tensors compute."""
    settings = {key: value for key, value in config.to_dict().items() if key not in FREE}
    if settings.get("init_lora_weights") in FRESH:
        settings["init_lora_weights"] = True
    if not settings.get("coft"):
        settings.pop("eps", None)  # it only limits constrained OFT
    return settings


def _shown(settings: dict[str, Any], key: str) -> str:
    value = settings.get(key)
    return str(getattr(value, "value", value))
