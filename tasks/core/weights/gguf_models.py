"""Models in GGUF files, read by transformers (5.24), with checks for what it would lose silently."""

from pathlib import Path
from typing import Any

import gguf
import torch
import transformers

from tasks.core.weights import complete, gguf_templates


def read(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return the model of a file, with its weights dequantised to `dtype`, and its tokenizer. Raises ValueError if the result would be a different model."""
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
        quantization_config=transformers.GgufConfig(
            dequantize=True
        ),  # without this, the model can be loaded but not saved
        **_left_out(reader),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    tokenizer.chat_template = gguf_templates.read(reader)
    return model, tokenizer


def _left_out(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Return settings that transformers' reader does not set itself: the biases of a LLaMA, which it would drop."""
    has_biases = any(tensor.name.endswith("attn_q.bias") for tensor in reader.tensors)
    return {"attention_bias": True} if _value(reader, "general.architecture") == "llama" and has_biases else {}


def _check_positions(file: Path, reader: gguf.GGUFReader) -> None:
    """Raise ValueError if a file scales its rotary positions, like LLaMA 3.1 and later, because transformers' reader ignores it."""
    architecture = _value(reader, "general.architecture")
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith(("rope_freqs", "rope_factors"))]
    # Read like llama.cpp: without a type the scaling is linear, and a factor of 1, or none, scales nothing.
    kind = _value(reader, f"{architecture}.rope.scaling.type") or "linear"
    factor = _value(reader, f"{architecture}.rope.scaling.factor", f"{architecture}.rope.scale_linear") or 1
    scaled = [f"rope.scaling.type {kind}"] if kind != "none" and (kind, factor) != ("linear", 1) else []
    if named := [*factors, *scaled]:
        raise ValueError(
            f"{file} scales the positions of its tokens ({', '.join(named)}), which transformers does not read of a GGUF file: the model "
            "would be another one, the more so the longer a text. Fetch its safetensors: {from: hub, …} or {from: folder, …}."
        )


def _value(reader: gguf.GGUFReader, *keys: str) -> Any:
    """Return the value of the first of these keys that a file has; None if it has none of them."""
    return next((reader.fields[key].contents() for key in keys if key in reader.fields), None)
