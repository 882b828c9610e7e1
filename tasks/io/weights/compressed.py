"""Compressed models on disk: the output of a compressor, `compressed.json` with its settings, and `ratchet.json`.

A compressed difference is `delta.safetensors`. For a model that was trained whole, it is added to the weights of the base. For an adapter, it is the
change of the adapter's tensors, whose other files are beside it, and `unpack` restores the adapter's folder.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.io.weights import checkpoints, turn_ends
from tasks.methods.compressors import DeltaCompressor, WeightCompressor

DELTA = "delta.safetensors"
REFERENCES = {"LORA": 0, "IA3": 1}
"""Value of an adapter's tensors that changes nothing. LoRA's A has no such value; as in the paper, it is compressed as it is."""


def load(path: Path, base: Path | None, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """Load the model at `path` and its tokenizer, in evaluation mode. A difference is added to `base`."""
    name = read_note(path)["compressor"]
    method = methods.load("compressors", name)
    if isinstance(method, WeightCompressor):
        model, tokenizer = method.read(path, dtype, device)
        turn_ends.add(model.generation_config, tokenizer)
        return model, tokenizer
    if not isinstance(method, DeltaCompressor):
        raise ValueError(f"{path} holds no model: compress.compressor is {name}. Use the tuned model itself.")
    if base is None:
        raise ValueError(f"{path} is a difference: name the model that it is added to.")
    if checkpoints.is_adapter(path):
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, Path(folder))
            return checkpoints.load(Path(folder), base, dtype=dtype, device=device)
    checkpoints.check_parent(path, base)
    model, tokenizer = checkpoints.load(base)
    weights = dict(model.named_parameters())
    for key, tensor in _decode(path).items():
        weights[key].data.add_(tensor)
    checkpoints.cast(model, dtype)
    return model.to(device), tokenizer


def unpack(path: Path, folder: Path) -> None:
    """Write the adapter that is compressed at `path` to `folder` in its original form, apart from the loss of compression."""
    from safetensors.torch import save_file

    reference = _reference(path)
    tensors = {name: tensor + reference for name, tensor in _decode(path).items()}
    copy_facts(path, folder)
    shutil.copyfile(path / checkpoints.CARD, folder / checkpoints.CARD)
    save_file(tensors, folder / _adapter_file(path), {"format": "pt"})


def read_delta(path: Path, base: Path) -> dict[str, Any]:
    """Return the change by training: an adapter's tensors minus their neutral value, or weights minus those of `base`.

    Raises ValueError if whole weights do not have the shapes of the base's.
    """
    from safetensors.torch import load_file

    if checkpoints.is_adapter(path):
        reference, used = _reference(path), _used(path)
        tensors = load_file(path / _adapter_file(path))
        return {name: tensor - reference for name, tensor in (used(tensors)[0] if used else tensors).items()}
    # Use the names in the models: a tied head is one tensor, even if a file repeats it.
    tuned, start = (dict(checkpoints.load(folder)[0].named_parameters()) for folder in (path, base))
    if odd := [name for name in sorted({*tuned, *start}) if _shape(tuned, name) != _shape(start, name)]:
        raise ValueError(f"{path} has another shape than {base} ({odd[0]}), so there is no difference between them.")
    return {name: (tensor - start[name]).detach() for name, tensor in tuned.items()}


def write_delta(folder: Path, stored: Mapping[str, Any]) -> None:
    """Write the encoded difference."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / DELTA)


def copy_facts(path: Path, folder: Path) -> None:
    """Copy the description of an adapter and the log of its training. If the adapter has two formats, peft's is the compressed one.

    An adapter that is stored as the values used in its forward pass gets a config that reads its tensors unchanged.
    """
    for name in (checkpoints.PEFT_ADAPTER, "training.json"):
        if (path / name).is_file():
            shutil.copyfile(path / name, folder / name)
    if checkpoints.is_adapter(path) and (used := _used(path)):
        _, config = used({})
        name, _ = checkpoints.read_adapter_note(path)
        checkpoints.write_adapter_note(folder, name, config.model_dump(mode="json"))


def write_note(folder: Path, compressor: str, params: Mapping[str, Any]) -> None:
    """Write `compressed.json`: the method and its settings."""
    text = json.dumps({"compressor": compressor, "params": params}, indent=1) + "\n"
    (folder / checkpoints.COMPRESSION_NOTE).write_text(text, encoding="utf-8")


def read_note(path: Path) -> dict[str, Any]:
    """Return the contents of `compressed.json`."""
    return dict(json.loads((path / checkpoints.COMPRESSION_NOTE).read_text(encoding="utf-8")))


def _decode(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    method = methods.load("compressors", read_note(path)["compressor"])
    return dict(method.decode(load_file(path / DELTA)))


def _used(path: Path) -> Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], Any]] | None:
    """Return `Adapter.used` for the config of the adapter at `path`; None if its method has none or if peft's file is compressed."""
    if (path / checkpoints.PEFT_ADAPTER).is_file():
        return None
    name, params = checkpoints.read_adapter_note(path)
    used = methods.load("adapters", name).used
    config = methods.spec("adapters", name).config.model_validate(params)
    return partial(used, config=config) if used else None


def _adapter_file(path: Path) -> str:
    """Return the name of the file with the compressed tensors."""
    return checkpoints.PEFT_WEIGHTS if (path / checkpoints.PEFT_ADAPTER).is_file() else checkpoints.OWN_WEIGHTS


def _reference(path: Path) -> int:
    """Return the neutral value of an adapter's tensors: 0 for LoRA, which adds, and for tensors that are stored as the forward pass uses them; 1
    for (IA)^3, which multiplies.

    Raises ValueError for adapters with another start, whose tensors are not the change by training, and for those without an equivalent LoRA.
    """
    config = path / checkpoints.PEFT_ADAPTER
    if _used(path):
        return 0
    if not config.is_file():
        name, _ = checkpoints.read_adapter_note(path)
        raise ValueError(
            f"{path} is an adapter of method {name}, and compressors take a LoRA. {methods.spec('adapters', name).no_lora}"
        )
    adapter_config = json.loads(config.read_text(encoding="utf-8"))
    kind = "DORA" if adapter_config.get("use_dora") else adapter_config["peft_type"]
    if kind not in REFERENCES:
        raise ValueError(
            f"{path} is an adapter of kind {kind}, whose tensors start from more than one value, so what training changed cannot "
            f"be told from them. Compress {' or '.join(REFERENCES)}, or store the whole model: compressor gguf or bitsandbytes."
        )
    return REFERENCES[kind]


def _shape(tensors: Mapping[str, Any], name: str) -> Any:
    return tensors[name].shape if name in tensors else None
