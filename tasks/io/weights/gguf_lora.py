"""A LoRA as a GGUF file, which llama.cpp applies to a GGUF file of its base (`llama-server --lora`)."""

import json
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.io.system import files
from tasks.io.weights import checkpoints

PREFIX = "base_model.model."
PARTS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
"""The suffixes of a LoRA's tensors in peft's format, and those in GGUF."""


def write(file: Path, adapter: Path, base: Path) -> int:
    """Write the LoRA in folder `adapter`, trained on the model in `base`, to the new file `file`, and return the number of its tensors.

    Raises ValueError for an adapter of another base or of quantised weights, for one that is not a LoRA, and for a model that cannot be
    written as GGUF.
    """
    import gguf
    from safetensors.torch import load_file
    from transformers import AutoConfig

    from tasks.methods.compressors.gguf import layout

    checkpoints.check_parent(adapter, base)
    alpha = _alpha(adapter)
    checkpoints.check_plain_base(adapter, "written as a LoRA of plain weights")
    config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    layout.check(config)
    place = layout.places(config)
    tensors = {}
    for name, tensor in load_file(adapter / checkpoints.PEFT_WEIGHTS).items():
        part = next((part for part in PARTS if name.endswith(part)), None)
        if part is None:
            raise ValueError(
                f"{adapter} holds {name}, which does not belong to a LoRA of linear layers. {REMEDY} {TIED}"
            )
        weight = name.removeprefix(PREFIX).removesuffix(part) + ".weight"
        values = tensor.float().numpy()
        if part == ".lora_B.weight":  # the rows of its tensor are the layer's outputs
            values = layout.ordered(values, weight, config)
        tensors[place(weight) + PARTS[part]] = values
    with files.atomic_path(file) as partial:
        writer = gguf.GGUFWriter(partial, config.model_type)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        for name in sorted(tensors):
            writer.add_tensor(name, tensors[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return len(tensors)


REMEDY = "Write it merged: `ratchet merge` makes a whole model of it, and compressor gguf a GGUF."
TIED = "One of embeddings or head cannot be merged where these are one tensor in the base: train it again without them."


def _alpha(adapter: Path) -> float:
    """Return alpha: llama.cpp scales B A by alpha / rank. Raises ValueError if it is not a plain LoRA."""
    from tasks.io.weights import peft_settings

    file = adapter / checkpoints.PEFT_ADAPTER
    if not file.is_file() or checkpoints.is_compressed(adapter):
        raise ValueError(f"{adapter} {_no_lora(adapter)}")
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    init = config.get("init_lora_weights", True)
    odd = {
        f"a {config['peft_type']} adapter in peft's format": config["peft_type"] != "LORA",
        "a DoRA": config.get("use_dora"),
        "a LoRA whose layers differ in rank or alpha": config.get("rank_pattern") or config.get("alpha_pattern"),
        f"a LoRA that took a part of the base's weights (init_lora_weights: {init})": init not in peft_settings.FRESH,
    }
    if misfits := [words for words, is_odd in odd.items() if is_odd]:
        raise ValueError(
            f"{adapter} is {misfits[0]}, and llama.cpp adds LoRA of one rank alone, to a base that is left as it is. {REMEDY}"
        )
    rank, alpha = config["r"], config["lora_alpha"]
    return float(alpha * rank**0.5 if config.get("use_rslora") else alpha)


def _no_lora(folder: Path) -> str:
    """Return the reason why there is no LoRA in `folder`, and a remedy."""
    if checkpoints.is_compressed(folder):
        return "is a compressed model, which cannot be taken here. Name the model that it was made of."
    name, _ = checkpoints.read_adapter_note(folder)
    if name == "none":
        return "is not an adapter, and llama.cpp adds only LoRA. Write a whole model by compressor gguf."
    spec = methods.spec("adapters", name)
    remedy = f" {REMEDY}" if spec.merges else ""
    return f"is an adapter of method {name}, and llama.cpp adds only LoRA. {spec.no_lora}{remedy}"
