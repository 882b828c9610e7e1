"""Write changes of weights as a LoRA in peft's format, which peft, vLLM and others read."""

from collections.abc import Mapping
from pathlib import Path

import peft
from safetensors.torch import save_file

from tasks import methods
from tasks.io.system import files
from tasks.io.weights import checkpoints
from tasks.methods.adapters import LowRank


def write(folder: Path, changes: Mapping[str, LowRank]) -> None:
    """Write changes of one rank, by the full names of the layers, to the existing folder `folder`."""
    (rank,) = {len(change.A_RI) for change in changes.values()}
    targets = sorted({name.rpartition(".")[2] for name in changes})
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,  # B is already scaled
        target_modules=targets,
        base_model_name_or_path="models/pretrained",
        task_type=peft.TaskType.CAUSAL_LM,
        inference_mode=True,
    )
    config.target_modules = targets  # peft made a set of it, whose order differs between processes
    config.save_pretrained(str(folder))
    tensors = {}
    for name, change in changes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = change.A_RI.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = change.B_OR.contiguous()
    save_file(tensors, folder / checkpoints.PEFT_WEIGHTS, {"format": "pt"})


def write_of_task(folder: Path, adapter: Path, base: Path, task: str) -> int:
    """Write to the new folder `folder` the changes for one task of the adapter in `adapter`, which was trained on the model in `base`.

    Returns the number of changed layers. Raises ValueError for an adapter without changes by task, for one of quantised weights, and for
    a task without a change.
    """
    name, _ = checkpoints.read_adapter_note(adapter)
    if (of_task := methods.load("adapters", name).of_task) is None:
        able = [each for each in methods.names("adapters") if methods.load("adapters", each).of_task]
        raise ValueError(
            f"{adapter} has one change for all tasks, or none. Adapters with one for each: {', '.join(able)}."
        )
    checkpoints.check_plain_base(adapter, "written as a LoRA of plain weights")
    model, _ = checkpoints.load(adapter, base)
    changes = of_task(model, task)
    with files.atomic_path(folder) as partial:
        partial.mkdir()
        write(partial, changes)
        checkpoints.write_card(partial, parent=checkpoints.weights_digest(base), task=task)
    return len(changes)
