"""Functions of GGUF. Equations and the legend of symbols are in the card, `__init__.py`."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers

from tasks.core.weights import gguf_models, gguf_templates
from tasks.methods.compressors import WeightCompressor
from tasks.methods.compressors.gguf import layout
from tasks.methods.compressors.gguf.config import GgufConfig

FILE = "model.gguf"
NAME = "Ratchet"
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q5_1": 9, "q5_0": 8, "q4_1": 3, "q4_0": 2}
"""GGUF's numbers for the type of most tensors of a file."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE = {SPLIT.replace("DIGITS", r"\p{N}"): "qwen2", SPLIT.replace("DIGITS", r"\p{N}{1,3}"): "llama-bpe"}
"""The pattern that a pre-tokenizer splits text by → its name in GGUF."""


def write(model: Any, tokenizer: Any, folder: Path, config: GgufConfig) -> None:
    """Write `model.gguf` and the settings of generation into the folder.

    Raises ValueError for a model or tokenizer that the format, or this module, cannot express.
    """
    layout.check(model.config)
    writer = gguf.GGUFWriter(folder / FILE, model.config.model_type)
    _describe(writer, model.config, config.type)
    _add_tokenizer(writer, tokenizer, model.config.vocab_size)
    _add_tensors(writer, model, config.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # The file itself can hold only one end token, and no repetition penalty.
    model.generation_config.save_pretrained(folder)


def read(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    """Return the model, its weights dequantised to `dtype`, and the tokenizer, with the generation config that is beside the file."""
    model, tokenizer = gguf_models.read(folder / FILE, getattr(torch, dtype))
    if (folder / transformers.utils.GENERATION_CONFIG_NAME).is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), tokenizer


def _describe(writer: Any, config: Any, kind: str) -> None:
    """Write the sizes of the model, from its config, and the number type (`kind`) of most tensors."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(NAME)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tensors(writer: Any, model: Any, wanted: str) -> None:
    """Write every weight under its name in GGUF; a tied weight is written once."""
    places = layout.places(model.config)
    for name, parameter in model.named_parameters():
        target = places(name)
        weight = layout.ordered(parameter.detach().to("cpu", torch.float32).numpy(), name, model.config)
        kind = _kind(target, weight.shape, wanted)
        writer.add_tensor(target, gguf.quantize(weight, kind), raw_dtype=kind)


def _kind(name: str, shape: tuple[int, ...], wanted: str) -> Any:
    """Return the number type of a stored tensor."""
    types = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return types.F32
    finer = wanted[:2] in ("q4", "q5") and name.startswith(("token_embd", "output."))
    kind = types.Q8_0 if finer else types[wanted.upper()]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return types.F16 if shape[-1] % block else kind


def _add_tokenizer(writer: Any, tokenizer: Any, size: int) -> None:
    """Write the vocabulary of `size` tokens, the merges, the special tokens and the chat template."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in parts["model"].get("merges", ())]
    known = {index: token for token, index in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = {i: gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED for i, token in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(parts, merges))
    writer.add_token_list([known.get(index, f"[PAD{index}]") for index in range(size)])
    writer.add_token_types(
        [kinds.get(i, gguf.TokenType.NORMAL if i in known else gguf.TokenType.UNUSED) for i in range(size)]
    )
    if merges:
        writer.add_token_merges(merges)
    else:  # the format has no empty list; readers that find none look for scores
        writer.add_token_scores([0.0] * size)
    for role, add in {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }.items():
        if (index := getattr(tokenizer, f"{role}_token_id")) is not None:
            add(index)
    first = tokenizer("a")["input_ids"][0]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and first == tokenizer.bos_token_id)
    writer.add_add_space_prefix(False)
    gguf_templates.write(writer, tokenizer.chat_template or {})


def _pre_tokenizer(parts: Any, merges: list[str]) -> str:
    """Return GGUF's name of a tokenizer's pre-tokenizer. Raises ValueError if it has no name there."""
    steps = parts["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    if parts["model"]["type"] == "BPE" and kinds[-1] == "ByteLevel" and not steps[-1]["add_prefix_space"]:
        match kinds[:-1], steps[-1]["use_regex"]:
            case [], True:
                return "gpt-2"
            case [], False if not merges:  # without merges, splitting changes nothing
                return "gpt-2"
            case ["Digits"], True if steps[0]["individual_digits"]:
                return "smollm"
            case ["Split"], False if name := PRE.get(steps[0]["pattern"].get("Regex", "")):
                return name
    raise ValueError(
        f"compressor gguf writes byte-level BPE tokenizers cut as GPT-2, SmolLM, Qwen2 or LLaMA 3 do; this one is "
        f"{parts['model']['type']}, cut by {', '.join(map(str, kinds))}."
    )


METHOD = WeightCompressor(write=write, read=read)
