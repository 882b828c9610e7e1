"""Compressed models on disk: what a compressor stored, `compressed.json` that says how, and `ratchet.json`.

Of a difference it is `delta.safetensors`, to be added to the base: to nothing where an adapter was compressed, whose other
files stand beside it; to its weights where it was trained whole. `unpack` gives the adapter's own folder back.
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
"""Value of an adapter's tensors that changes nothing. LoRA's A may start anywhere; the paper takes it as it is."""


def load(path: Path, base: Path | None, *, dtype: str = "float32", device: str = "cpu") -> tuple[Any, Any]:
    """Load the model at `path` and its tokenizer, in evaluation mode; a difference is added to `base`."""
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
    """Write the adapter that is compressed at `path` to `folder` as it was before, but for what was lost."""
    from safetensors.torch import save_file

    reference = _reference(path)
    tensors = {name: tensor + reference for name, tensor in _decode(path).items()}
    copy_facts(path, folder)
    shutil.copyfile(path / checkpoints.CARD, folder / checkpoints.CARD)
    save_file(tensors, folder / _adapter_file(path), {"format": "pt"})


def read_delta(path: Path, base: Path) -> dict[str, Any]:
    """Return what training changed: an adapter's tensors less their neutral value, or weights less those of `base`.

    Raises ValueError where whole weights do not have the shapes of the base's.
    """
    from safetensors.torch import load_file

    if checkpoints.is_adapter(path):
        reference, used = _reference(path), _used(path)
        tensors = load_file(path / _adapter_file(path))
        return {name: tensor - reference for name, tensor in (used(tensors)[0] if used else tensors).items()}
    # By the models' own names: a tied head is one tensor, whether a file repeats it or not.
    tuned, start = (dict(checkpoints.load(folder)[0].named_parameters()) for folder in (path, base))
    if odd := [name for name in sorted({*tuned, *start}) if _shape(tuned, name) != _shape(start, name)]:
        raise ValueError(f"{path} has another shape than {base} ({odd[0]}), so there is no difference between them.")
    return {name: (tensor - start[name]).detach() for name, tensor in tuned.items()}


def write_delta(folder: Path, stored: Mapping[str, Any]) -> None:
    """Write the encoded difference."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, folder / DELTA)


def copy_facts(path: Path, folder: Path) -> None:
    """Copy what describes an adapter, and the course of its training. If it has two formats, that is peft's, the compressed one.

    An adapter stored in the values that its forward uses gets a config that takes its tensors unchanged.
    """
    for name in (checkpoints.PEFT_ADAPTER, "training.json"):
        if (path / name).is_file():
            shutil.copyfile(path / name, folder / name)
    if checkpoints.is_adapter(path) and (used := _used(path)):
        _, config = used({})
        name, _ = checkpoints.read_adapter_note(path)
        checkpoints.write_adapter_note(folder, name, config.model_dump(mode="json"))


def write_note(folder: Path, compressor: str, params: Mapping[str, Any]) -> None:
    """Write `compressed.json`: the method and the settings that it was applied with."""
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
    """Return `Adapter.used` under the config of the adapter at `path`; None where its method has none or peft's file is compressed."""
    if (path / checkpoints.PEFT_ADAPTER).is_file():
        return None
    name, params = checkpoints.read_adapter_note(path)
    used = methods.load("adapters", name).used
    config = methods.spec("adapters", name).config.model_validate(params)
    return partial(used, config=config) if used else None


def _adapter_file(path: Path) -> str:
    """Return the name of the file of the tensors that are compressed."""
    return checkpoints.PEFT_WEIGHTS if (path / checkpoints.PEFT_ADAPTER).is_file() else checkpoints.OWN_WEIGHTS


def _reference(path: Path) -> int:
    """Return the neutral value of an adapter's tensors: LoRA adds, from 0, as does what is stored as its forward uses it; (IA)^3
    multiplies, from 1.

    Raises ValueError for adapters that start elsewhere, whose tensors are not what training changed, and for those that no LoRA computes.
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
