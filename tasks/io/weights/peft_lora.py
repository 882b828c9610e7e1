"""Changes of weights on disk as a LoRA in peft's format, which peft, vLLM and others read."""

from collections.abc import Mapping
from pathlib import Path

import peft
from safetensors.torch import save_file

from tasks.io.weights.checkpoints import PEFT_WEIGHTS
from tasks.methods.adapters import LowRank


def write(folder: Path, changes: Mapping[str, LowRank]) -> None:
    """Write changes of one rank, by the full names of the layers, to the existing folder `folder`."""
    (rank,) = {len(change.A_RI) for change in changes.values()}
    targets = sorted({name.rpartition(".")[2] for name in changes})
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,  # B is scaled already
        target_modules=targets,
        base_model_name_or_path="models/pretrained",
        task_type=peft.TaskType.CAUSAL_LM,
        inference_mode=True,
    )
    config.target_modules = targets  # peft made a set of it, whose order is another in every process
    config.save_pretrained(str(folder))
    tensors = {}
    for name, change in changes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = change.A_RI.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = change.B_OR.contiguous()
    save_file(tensors, folder / PEFT_WEIGHTS, {"format": "pt"})
