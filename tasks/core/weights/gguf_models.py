"""Models in GGUF files, as transformers' reader (5.24) opens them, and what it would lose without a word."""

from pathlib import Path
from typing import Any

import gguf
import torch
import transformers

from tasks.core.weights import complete, gguf_templates


def read(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return the model of a file, its weights spread out to `dtype`, and its tokenizer. Raises ValueError for a model that would be another."""
    try:
        reader = gguf.GGUFReader(file)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}.") from None
    _check_positions(file, reader)
    model = complete.load(
        transformers.AutoModelForCausalLM,
        file.parent,
        gguf_file=file.name,
        dtype=dtype,
        quantization_config=transformers.GgufConfig(dequantize=True),  # without this it loads but cannot be saved
        **_left_out(reader),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    tokenizer.chat_template = gguf_templates.read(reader)
    return model, tokenizer


def _left_out(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Return what transformers' reader does not set by itself: that a LLaMA has biases, which it would drop."""
    has_biases = any(tensor.name.endswith("attn_q.bias") for tensor in reader.tensors)
    return {"attention_bias": True} if _value(reader, "general.architecture") == "llama" and has_biases else {}


def _check_positions(file: Path, reader: gguf.GGUFReader) -> None:
    """Raise ValueError where a file scales its rotary positions, as LLaMA 3.1 and later do, which transformers' reader passes over."""
    architecture = _value(reader, "general.architecture")
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith(("rope_freqs", "rope_factors"))]
    # As llama.cpp reads them: without a type it is linear, and by a factor of 1, or by none, nothing is scaled.
    kind = _value(reader, f"{architecture}.rope.scaling.type") or "linear"
    factor = _value(reader, f"{architecture}.rope.scaling.factor", f"{architecture}.rope.scale_linear") or 1
    scaled = [f"rope.scaling.type {kind}"] if kind != "none" and (kind, factor) != ("linear", 1) else []
    if named := [*factors, *scaled]:
        raise ValueError(
            f"{file} scales the positions of its tokens ({', '.join(named)}), which transformers does not read of a GGUF file: the model "
            "would be another one, the more so the longer a text. Fetch its safetensors: {from: hub, …} or {from: folder, …}."
        )


def _value(reader: gguf.GGUFReader, *keys: str) -> Any:
    """Return what a file has by the first of the keys that it has; None where it has none of them."""
    return next((reader.fields[key].contents() for key in keys if key in reader.fields), None)
