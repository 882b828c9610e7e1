"""Models on disk: Hugging Face folders with safetensors, and `ratchet.json` beside the weights, which states their origin."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.core.training import Start
from tasks.core.weights import complete
from tasks.io import provenance
from tasks.io.weights import turn_ends

CARD = "ratchet.json"
PEFT_ADAPTER = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
OWN_ADAPTER = "adapter.json"
OWN_WEIGHTS = "adapter.safetensors"
"""The file of an adapter of ours. It may have an equivalent LoRA in peft's format beside it, for other programs and banks; `load` reads this file."""
NO_CHANGE = ("ADAPTION_PROMPT", "POLY")
"""Kinds of peft's adapters, besides prompts, that are not a change of weights: one adds to the output of attention, one differs between tasks."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The file of all weights, and the index if they are in several files."""
COMPRESSION_NOTE = "compressed.json"
"""The file by which a compressor marks a folder that it wrote (`tasks.io.weights.compressed`)."""
BANK = "bank"
"""The folder, in that of a model, with a bank of adapters for it (`tasks.io.weights.banks`)."""
DATE = {
    "d": "26",
    "-d": "26",
    "m": "07",
    "-m": "7",
    "b": "Jul",
    "B": "July",
    "a": "Fri",
    "A": "Friday",
    "y": "24",
    "Y": "2024",
}
"""26 July 2024 in the form of `strftime`, the date that Llama's chat templates use without a clock."""
TIME = {"H": "00", "I": "12", "M": "00", "S": "00", "p": "AM"}
CLOCK = (
    "{%- macro strftime_now(form) -%}{{ form"
    + "".join(f".replace('%{code}', '{text}')" for code, text in (DATE | TIME).items())
    + " }}{%- endmacro %}\n"
)
"""A constant clock, which is put before a chat template that writes today's date. transformers removes one line break after a block. It is the one
here, so that the template still begins at the start of a line and keeps its own white space."""
NAMED_TEMPLATES = "additional_chat_templates/*.jinja"
"""The folder in which transformers writes and reads further chat templates of a tokenizer, beside `chat_template.jinja`."""


def load(
    path: Path, base: Path | None = None, *, dtype: str = "float32", device: str = "cpu", quantization: Any = None
) -> tuple[Any, Any]:
    """Load the model at `path` and its tokenizer, in evaluation mode.

    `tasks.io.weights.models.load` opens compressed models too. An adapter is loaded onto `base`, which is stored in the same way as when the adapter
    was trained, and merged into it if that is exact. Only then are the weights cast to `dtype`. `quantization` comes from a method of family `bases`;
    an adapter uses that of its training. Raises ValueError if an adapter was trained on other weights than the base's, and if the folder lacks
    weights as safetensors, or a tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if is_compressed(path):
        raise ValueError(
            f"{path} is a compressed model, which cannot be taken here. Name the model that it was made of."
        )
    plain = path if not is_adapter(path) else base
    if plain is None:
        raise ValueError(f"{path} is an adapter: name the model it was trained on.")
    check_folder(plain)
    if is_adapter(path):
        check_parent(path, plain)
        check_adapter(path)
        quantization = quantization_of(path)
    merge = is_adapter(path) and quantization is None and methods.spec("adapters", read_adapter_note(path)[0]).merges
    model = complete.load(
        AutoModelForCausalLM,
        plain,
        dtype=torch.float32 if merge else getattr(torch, dtype),  # in bf16, small changes would be lost
        quantization_config=quantization,
        device_map={"": device} if quantization else None,
        use_safetensors=True,
    )
    _settle(model)
    if is_adapter(path):
        model = put_on(path, model, merge=merge)
    if merge:
        cast(model, dtype)
    tokenizer = load_tokenizer(plain)
    turn_ends.add(model.generation_config, tokenizer)
    return (model if quantization else model.to(device)).eval(), tokenizer


def cast(model: Any, dtype: str) -> None:
    """Cast the weights of `model` one by one. Buffers keep their precision, the same as when a model is loaded in `dtype`."""
    import torch

    for weight in model.parameters():
        weight.data = weight.data.to(getattr(torch, dtype))


def write_adapter(folder: Path, tensors: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> None:
    """Write an adapter of ours: its tensors, and the method with the settings with which `load` attaches it."""
    from safetensors.torch import save_file

    save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, folder / OWN_WEIGHTS)
    write_adapter_note(folder, name, params)


def write_adapter_note(folder: Path, name: str, params: Mapping[str, Any]) -> None:
    """Write `adapter.json`: the method and the settings with which `load` attaches an adapter of ours."""
    text = json.dumps({"adapter": name, "params": params}, indent=1) + "\n"
    (folder / OWN_ADAPTER).write_text(text, encoding="utf-8")


def read_adapter_note(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the method and the settings with which `load` attaches an adapter of ours; `none` and no settings for any other folder."""
    file = folder / OWN_ADAPTER
    note: dict[str, Any] = {"adapter": "none", "params": {}}
    if file.is_file():
        note = json.loads(file.read_text(encoding="utf-8"))
    return note["adapter"], note["params"]


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return the tensors of an adapter, by their names in its file."""
    from safetensors.torch import load_file

    return load_file(folder / (OWN_WEIGHTS if (folder / OWN_ADAPTER).is_file() else PEFT_WEIGHTS))


def fill(attached: Any, method: str, tensors: Mapping[str, Any], folder: Path) -> None:
    """Copy the tensors of the adapter in `folder` into a new adapter of the same method in a model.

    Raises ValueError if the two do not have the same tensors, or would not compute the same with them.
    """
    is_peft = hasattr(attached, "peft_config")
    if is_peft:
        import peft

        from tasks.io.weights import peft_settings

        peft_settings.check(folder, attached.peft_config["default"], method)
        places = peft.get_peft_model_state_dict(attached, save_embedding_layers=False)
    else:
        places = {name: parameter for name, parameter in attached.named_parameters() if parameter.requires_grad}
        places |= methods.spec("adapters", method).held_in(attached)
    sides = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (places, tensors)]
    if odd := [name for name in sorted({*places, *tensors}) if sides[0].get(name) != sides[1].get(name)]:
        raise ValueError(
            f"{folder} does not fit the model it is put on: {', '.join(odd[:3])} stands on one side only, or in two sizes."
        )
    if is_peft:
        peft.set_peft_model_state_dict(attached, dict(tensors))
    else:
        for name, tensor in tensors.items():
            places[name].data.copy_(tensor)


def pass_through(source: Path, target: Path) -> None:
    """Write the model at `source` to `target` unchanged, but without `training.json`, because there was no training, and without its bank.

    The files are hard links, or copies if the file system has no links.
    """
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns("training.json", BANK))


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer in a model's folder.

    A chat template that writes today's date gets a fixed date, also in saved models. So the same data give the same tokens on every day, and the
    model is served in the way it was trained. A tokenizer without a padding token or an end token gets the end token in the model's settings.
    Raises ValueError if they name none.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    templates = tokenizer.chat_template
    if isinstance(templates, dict):
        tokenizer.chat_template = {name: _with_clock(template) for name, template in templates.items()}
    elif templates:
        tokenizer.chat_template = _with_clock(templates)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(turn_ends.of_settings(path))
    return tokenizer


def _with_clock(template: str) -> str:
    """Return a chat template with the constant clock before it, if it asks for the time and has no clock."""
    has_none = "strftime_now" in template and "macro strftime_now" not in template
    return CLOCK + template if has_none else template


def is_adapter(path: Path) -> bool:
    """Return True if the folder holds an adapter, not a whole model."""
    return (path / PEFT_ADAPTER).is_file() or (path / OWN_ADAPTER).is_file()


def is_compressed(path: Path) -> bool:
    """Return True if the folder was written by a compressor."""
    return (path / COMPRESSION_NOTE).is_file()


def is_bank(path: Path) -> bool:
    """Return True if the folder holds a bank: one adapter for each task or domain, each in its own folder (`tasks.io.weights.banks`)."""
    return "bank" in read_card(path)


def check_folder(path: Path) -> None:
    """Raise ValueError that names what the model folder at `path` lacks, or the adapters of a bank, which is not a single model."""
    if is_bank(path):
        folders = [str(path / member["folder"]) for member in read_card(path)["bank"]["members"].values()]
        shown = ", ".join(folders[:3]) + (", …" if len(folders) > 3 else "")
        raise ValueError(
            f"{path} is a bank of {len(folders)} adapters, and here one model is needed. Name one of them: {shown}."
        )
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} is not a model folder: config.json is missing.")
    if not list(path.glob("*.safetensors")):
        pickled = [file.name for file in path.glob("*.bin")]
        weights_found = (
            f"found {', '.join(pickled)}, which can run code when it is opened; convert it" if pickled else "found none"
        )
        raise ValueError(f"{path} has no weights as .safetensors: {weights_found}.")
    if missing := sorted(name for name in files_read(path) if not (path / name).is_file()):
        raise ValueError(f"{path} lacks {', '.join(missing)}, which {INDEX} names. Copy all files of its weights.")
    if not (path / "tokenizer.json").is_file():
        raise ValueError(
            f"{path} has no tokenizer.json. Save the tokenizer beside the weights (`tokenizer.save_pretrained`)."
        )


def files_read(path: Path) -> set[str]:
    """Return the names of the files from which transformers reads the weights in a folder; empty if there is neither a single file nor an index."""
    if (path / WHOLE).is_file():
        return {WHOLE}
    index = path / INDEX
    return {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()} if index.is_file() else set()


def write_card(path: Path, **facts: Any) -> None:
    """Write `ratchet.json`: the given facts, the hash of the weights, and the class of machine that made them."""
    card = facts | {"weights": weights_digest(path), "machine": provenance.machine_class()}
    (path / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_card(path: Path) -> dict[str, Any]:
    """Return the contents of `ratchet.json`; empty for a folder that Ratchet did not make."""
    file = path / CARD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def check_adapter(path: Path) -> None:
    """Raise ValueError if an adapter's folder lacks its tensors as safetensors."""
    file = OWN_WEIGHTS if (path / OWN_ADAPTER).is_file() else PEFT_WEIGHTS
    if not (path / file).is_file():
        raise ValueError(
            f"{path} has no {file}. Save the adapter as safetensors: what is pickled can run code when it is opened."
        )


def weights_digest(path: Path) -> str:
    """Return one hash of all weights in a folder."""
    return provenance.facts_digest(
        {file.relative_to(path).as_posix(): provenance.digest(file) for file in weights(path)}
    )


def weights(path: Path) -> list[Path]:
    """Return the files of a folder that hold weights; for a bank, those of its adapters."""
    folders = [path, *(entry for entry in path.iterdir() if is_adapter(entry))]
    return sorted(file for folder in folders for file in folder.iterdir() if file.suffix in (".safetensors", ".gguf"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _settle(model: Any) -> None:
    """Keep 4-bit weights in their stored form, and the outputs of quantised layers in the model's type.

    On a CPU with AVX512-BF16, bitsandbytes repacks 4-bit weights at their first use in evaluation mode. The new form passes no gradient, always
    computes in bf16, and fails if the number of a layer's outputs is not a multiple of 32. Moreover, peft's (IA)³ passes fp32 to such a layer and
    returns its output unchanged, so that in a bf16 model attention gets two types.
    """
    import torch

    dtype = model.dtype
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if dtype is not torch.float32 and hasattr(module, "out_features") and not module.weight.is_floating_point():
            module.register_forward_hook(lambda _layer, _inputs, output: output.to(dtype))


def base_method(path: Path) -> str:
    """Return the method of family `bases` with which the adapter at `path` was trained; `none` for plain weights."""
    return str(read_card(path).get("method", {}).get("base", "none"))


def check_plain_base(path: Path, action: str) -> None:
    """Raise ValueError, which says that the adapter at `path` cannot be `action`, if it was trained on quantised weights.

    Its change was trained for those weights. With plain ones, the model would differ from the one that was trained and measured.
    """
    if (name := base_method(path)) != "none":
        raise ValueError(
            f"{path} was trained on base {name!r} and cannot be {action}. Train with `base: none` and an adapter that merges."
        )


def quantization_of(path: Path) -> Any:
    """Return the quantisation of the base in the training of the adapter at `path`; None for plain weights."""
    name = base_method(path)
    recorded = read_card(path)["settings"]["methods"][name] if name != "none" else {}
    config = methods.spec("bases", name).config.model_validate(recorded)
    return methods.load("bases", name).quantization(config)


def put_on(path: Path, model: Any, *, merge: bool) -> Any:
    """Attach the adapter at `path` to `model`, and merge it if requested and if that is exact.

    An adapter of ours that is not merged is attached as the equivalent LoRA beside it, if there is one, because the LoRA does not depend on the exact
    weights of `model`. LoLDU's z, for instance, belongs to the weights of its training, and `model` may hold them rounded.
    """
    name, params = read_adapter_note(path)
    if name == "none" or (not merge and (path / PEFT_ADAPTER).is_file()):
        from peft import PeftModel

        with _fits(path):
            attached = PeftModel.from_pretrained(model, str(path), use_safetensors=True)
        adapter = attached.active_peft_config
        if adapter.is_prompt_learning or adapter.peft_type.value in NO_CHANGE:
            raise ValueError(
                f"{path} is a {adapter.peft_type.value} adapter, which is not a change of weights, and Ratchet measures and merges only those. "
                "Train one that is: `ratchet methods adapters` lists them."
            )
        return attached.merge_and_unload() if merge and _merges(attached) else attached.get_base_model()
    method = methods.load("adapters", name)
    config = methods.spec("adapters", name).config.model_validate(params)
    tensors = read_adapter(path)
    attached = method.attach(model, config, Start(tensors=tensors))
    fill(attached, name, tensors, path)
    attached.requires_grad_(False)
    return method.merge(attached) if merge else attached


@contextmanager
def _fits(path: Path) -> Iterator[None]:
    """Raise ValueError if peft fails because of the shapes of the adapter at `path`, or warns that layers have no tensors in its file, which would
    leave them unchanged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            yield
        except (RuntimeError, UserWarning) as error:
            if isinstance(error, RuntimeError) and "loading state_dict" not in str(error):
                raise  # such as a lack of memory
            raise ValueError(
                f"{path} does not fit the model it is put on: {' '.join(str(error).split())[:400]}"
            ) from None


def _merges(attached: Any) -> bool:
    """Return True if peft's merge gives the same model. It does not if LoRA has a bias and its layer has none, or if LoRA adapts the embeddings or the
    head of a model in which both are one tensor, because a change of one would change the other."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = attached.get_base_model()
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    adapts_tied = ends[0].weight is ends[1].weight and any(isinstance(end, BaseTunerLayer) for end in ends)
    layers = [module.get_base_layer() for module in model.modules() if isinstance(module, BaseTunerLayer)]
    has_bias = getattr(attached.active_peft_config, "lora_bias", False)
    return not (adapts_tied or (has_bias and any(getattr(layer, "bias", None) is None for layer in layers)))


def check_parent(path: Path, base: Path) -> None:
    """Raise ValueError if the card at `path` names, by their hash, other weights than those in `base`."""
    expected = read_card(path).get("parent")
    if expected and expected != (weights_hash := weights_digest(base)):
        raise ValueError(
            f"{path} was trained on weights {expected[:12]}, but {base} holds {weights_hash[:12]}. Name the base it was trained on."
        )


def trainable(model: Path) -> int:
    """Return the number of trained parameters; 0 for the base."""
    course = model / "training.json"
    return json.loads(course.read_text(encoding="utf-8"))["trainable"] if course.is_file() else 0
