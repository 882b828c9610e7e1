"""Write a trained model: an adapter where one was trained, else the whole model."""

import json
from pathlib import Path
from typing import Any

from tasks.engine.training import compose
from tasks.engine.training.compose import Attached, Composition
from tasks.io.weights import checkpoints, peft_lora


def save(attached: Attached, parts: Composition, tokenizer: Any, folder: Path, *, standalone: bool = False) -> None:
    """Write what was trained to the new folder `folder`.

    An adapter is written alone: in peft's format if peft made it, else as `adapter.safetensors` with `adapter.json`. If a LoRA computes the
    same function, that LoRA is written too, in peft's format. Everything is merged into one model if there is no adapter, the base grew, or
    a selector put deltas on weights, and with `standalone`.
    """
    folder.mkdir(parents=True)
    model: Any = attached.model
    if standalone or parts.adapter.name == "none" or compose.needs_merging(parts):
        model = compose.merge(model, parts)
        model.config.use_cache = True  # training switched it off
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if attached.expansion:
            (folder / "expansion.json").write_text(json.dumps(attached.expansion, indent=1) + "\n", encoding="utf-8")
    elif hasattr(model, "peft_config"):
        for config in model.peft_config.values():
            config.base_model_name_or_path = "models/pretrained"
            for name, value in vars(config).items():
                if isinstance(value, set):  # the order of a set differs between processes
                    setattr(config, name, sorted(value))
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's model card is an empty form
    else:
        tensors = {name: tensor for name, tensor in model.named_parameters() if name in attached.adapter}
        tensors |= parts.adapter.spec.held_in(model)
        checkpoints.write_adapter(folder, tensors, parts.adapter.name, parts.adapter.config.model_dump(mode="json"))
        if finish := parts.adapter.method.finish:
            peft_lora.write(folder, finish(model))
