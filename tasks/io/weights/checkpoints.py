"""Models on disk: Hugging Face folders with safetensors, and `ratchet.json` beside the weights that says where they came from."""

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
"""An adapter of ours may have a LoRA beside it that computes the same, in peft's format: other programs and banks read that, and `load` this."""
NO_CHANGE = ("ADAPTION_PROMPT", "POLY")
"""Kinds of peft's adapters, besides prompts, that are no change of weights: one adds to what attention gives, one differs from task to task."""
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The file of all weights, and, where they lie in several, the one that says which lies where."""
COMPRESSION_NOTE = "compressed.json"
"""The file by which a compressor marks the folder it wrote (`tasks.io.weights.compressed`)."""
BANK = "bank"
"""In the folder of a model: a bank of adapters that stand on it (`tasks.io.weights.banks`)."""
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
"""26 July 2024 as `strftime` writes it: the date that Llama's chat templates have where no clock is given."""
TIME = {"H": "00", "I": "12", "M": "00", "S": "00", "p": "AM"}
CLOCK = (
    "{%- macro strftime_now(form) -%}{{ form"
    + "".join(f".replace('%{code}', '{text}')" for code, text in (DATE | TIME).items())
    + " }}{%- endmacro %}\n"
)
"""A clock that stands still, before a chat template that writes today's date. Of what follows a block, transformers leaves out one line break:
this one, so that the template begins a line as it did alone, and keeps its own white space."""
NAMED_TEMPLATES = "additional_chat_templates/*.jinja"
"""Chat templates that a tokenizer has beside the one in `chat_template.jinja`, where transformers writes and reads them."""


def load(
    path: Path, base: Path | None = None, *, dtype: str = "float32", device: str = "cpu", quantization: Any = None
) -> tuple[Any, Any]:
    """Load the model at `path` and its tokenizer, in evaluation mode.

    `tasks.io.weights.models.load` opens compressed models too. An adapter is loaded onto `base`, stored as it was when the adapter was trained, and
    merged into it where that is exact; only then are the weights cast to `dtype`. `quantization` is what a method of family `bases` gives, and
    for an adapter that of its training. Raises ValueError where an adapter was trained on other weights than the base's, and where the folder lacks
    weights as safetensors or a tokenizer.
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
        dtype=torch.float32 if merge else getattr(torch, dtype),  # bf16 drops small changes that are added to it
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
    """Cast the weights of `model` one by one. Buffers keep their precision, as when a model is loaded in `dtype`."""
    import torch

    for weight in model.parameters():
        weight.data = weight.data.to(getattr(torch, dtype))


def write_adapter(folder: Path, tensors: Mapping[str, Any], name: str, params: Mapping[str, Any]) -> None:
    """Write an adapter of ours: its tensors, and the method with the settings that `load` attaches it by."""
    from safetensors.torch import save_file

    save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, folder / OWN_WEIGHTS)
    write_adapter_note(folder, name, params)


def write_adapter_note(folder: Path, name: str, params: Mapping[str, Any]) -> None:
    """Write `adapter.json`: the method and the settings that `load` attaches an adapter of ours by."""
    text = json.dumps({"adapter": name, "params": params}, indent=1) + "\n"
    (folder / OWN_ADAPTER).write_text(text, encoding="utf-8")


def read_adapter_note(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the method and the settings that `load` attaches an adapter of ours by; `none` and no settings for any other folder."""
    file = folder / OWN_ADAPTER
    note: dict[str, Any] = {"adapter": "none", "params": {}}
    if file.is_file():
        note = json.loads(file.read_text(encoding="utf-8"))
    return note["adapter"], note["params"]


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return the tensors of an adapter, by the names that they have in its file."""
    from safetensors.torch import load_file

    return load_file(folder / (OWN_WEIGHTS if (folder / OWN_ADAPTER).is_file() else PEFT_WEIGHTS))


def fill(attached: Any, method: str, tensors: Mapping[str, Any], folder: Path) -> None:
    """Put the tensors of the adapter in `folder`, which is of this method, into their places in a model that has a new one.

    Raises ValueError where the two do not have the same tensors, or would not compute the same with them.
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
    """Write the model at `source` to `target` unchanged, without `training.json`, as no training took place here, and without a bank beside it.

    The files are the same bytes under another name; copies where the disk cannot link.
    """
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns("training.json", BANK))


def load_tokenizer(path: Path) -> Any:
    """Load the tokenizer in a model's folder.

    A chat template that writes today's date is given a fixed one, and keeps it where the model is saved: the same data give the same
    tokens on every day, and the model is served as it was trained. A tokenizer that has no token to pad with or to end texts gets the end
    token that the model's settings name. Raises ValueError if they name none.
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
    """Return a chat template after the clock, if it asks for the time and has none."""
    has_none = "strftime_now" in template and "macro strftime_now" not in template
    return CLOCK + template if has_none else template


def is_adapter(path: Path) -> bool:
    """Return whether the folder holds an adapter rather than a whole model."""
    return (path / PEFT_ADAPTER).is_file() or (path / OWN_ADAPTER).is_file()


def is_compressed(path: Path) -> bool:
    """Return whether the folder was written by a compressor."""
    return (path / COMPRESSION_NOTE).is_file()


def is_bank(path: Path) -> bool:
    """Return whether the folder holds a bank: an adapter a task or a domain, each in a folder of its own (`tasks.io.weights.banks`)."""
    return "bank" in read_card(path)


def check_folder(path: Path) -> None:
    """Raise ValueError naming what the model folder at `path` lacks, or the adapters of a bank, which is no one model."""
    if is_bank(path):
        folders = [str(path / member["folder"]) for member in read_card(path)["bank"]["members"].values()]
        shown = ", ".join(folders[:3]) + (", …" if len(folders) > 3 else "")
        raise ValueError(
            f"{path} is a bank of {len(folders)} adapters, and here one model is needed. Name one of them: {shown}."
        )
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} is no model folder: config.json is missing.")
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
    """Return the names of the files that transformers reads the weights in a folder from; empty where it has neither one for all nor an index."""
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
    """Raise ValueError where an adapter's folder lacks its tensors as safetensors."""
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
    """Return the files of a folder that hold weights, of a bank those of its adapters."""
    folders = [path, *(entry for entry in path.iterdir() if is_adapter(entry))]
    return sorted(file for folder in folders for file in folder.iterdir() if file.suffix in (".safetensors", ".gguf"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _settle(model: Any) -> None:
    """Keep 4-bit weights as they are stored, and what quantised layers return in the model's type.

    On a CPU with AVX512-BF16 bitsandbytes repacks them at their first use in evaluation mode, into a form that passes no gradient
    on, computes in bf16 whatever was asked for, and fails where the outputs of a layer are no multiple of 32. And peft's (IA)³ hands
    such a layer fp32 and passes on what it returns: in a model of bf16, attention then meets two types.
    """
    import torch

    dtype = model.dtype
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if dtype is not torch.float32 and hasattr(module, "out_features") and not module.weight.is_floating_point():
            module.register_forward_hook(lambda _layer, _inputs, output: output.to(dtype))


def base_method(path: Path) -> str:
    """Return the method of family `bases` that the adapter at `path` was trained with; `none` for plain weights."""
    return str(read_card(path).get("method", {}).get("base", "none"))


def check_plain_base(path: Path, action: str) -> None:
    """Raise ValueError, which says that the adapter at `path` cannot be `action`, if it was trained on quantised weights.

    Its change was made for those: on plain ones the model computes something else than what was trained and measured.
    """
    if (name := base_method(path)) != "none":
        raise ValueError(
            f"{path} was trained on base {name!r} and cannot be {action}. Train with `base: none` and an adapter that merges."
        )


def quantization_of(path: Path) -> Any:
    """Return the quantization that the base of the adapter at `path` had in training; None for plain weights."""
    name = base_method(path)
    recorded = read_card(path)["settings"]["methods"][name] if name != "none" else {}
    config = methods.spec("bases", name).config.model_validate(recorded)
    return methods.load("bases", name).quantization(config)


def put_on(path: Path, model: Any, *, merge: bool) -> Any:
    """Attach the adapter at `path` to `model`, and merge it if asked to and where that is exact.

    One of ours that is not merged is attached as the LoRA beside it, if there is one, which says nothing of the numbers of `model`: LoLDU's z
    belongs to those that it was trained on, and `model` may hold them rounded.
    """
    name, params = read_adapter_note(path)
    if name == "none" or (not merge and (path / PEFT_ADAPTER).is_file()):
        from peft import PeftModel

        with _fits(path):
            attached = PeftModel.from_pretrained(model, str(path), use_safetensors=True)
        adapter = attached.active_peft_config
        if adapter.is_prompt_learning or adapter.peft_type.value in NO_CHANGE:
            raise ValueError(
                f"{path} is a {adapter.peft_type.value} adapter, which is no change of weights, and Ratchet measures and merges those alone. "
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
    """Raise ValueError where peft fails by the shapes of the adapter at `path`, or warns that layers have no tensors in its file: they would
    stay as they are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            yield
        except (RuntimeError, UserWarning) as error:
            if isinstance(error, RuntimeError) and "loading state_dict" not in str(error):
                raise  # memory, for one
            raise ValueError(
                f"{path} does not fit the model it is put on: {' '.join(str(error).split())[:400]}"
            ) from None


def _merges(attached: Any) -> bool:
    """Return whether peft's merge gives the same model: not where LoRA has a bias and its layer none, nor where it adapts the embeddings or the
    head of a model where both are one tensor, and a change of one would be one of the other."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = attached.get_base_model()
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    adapts_tied = ends[0].weight is ends[1].weight and any(isinstance(end, BaseTunerLayer) for end in ends)
    layers = [module.get_base_layer() for module in model.modules() if isinstance(module, BaseTunerLayer)]
    has_bias = getattr(attached.active_peft_config, "lora_bias", False)
    return not (adapts_tied or (has_bias and any(getattr(layer, "bias", None) is None for layer in layers)))


def check_parent(path: Path, base: Path) -> None:
    """Raise ValueError where the card at `path` names other weights than those that `base` holds, by their hash."""
    expected = read_card(path).get("parent")
    if expected and expected != (weights_hash := weights_digest(base)):
        raise ValueError(
            f"{path} was trained on weights {expected[:12]}, but {base} holds {weights_hash[:12]}. Name the base it was trained on."
        )


def trainable(model: Path) -> int:
    """Return the number of trained parameters; 0 for the base."""
    course = model / "training.json"
    return json.loads(course.read_text(encoding="utf-8"))["trainable"] if course.is_file() else 0
