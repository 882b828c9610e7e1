"""The places of a model's weights in a GGUF file: their names, and the order of their rows."""

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tasks.methods.compressors.gguf.config import SPEC

QWEN3_WIDTH = 128
"""The width of the heads of all Qwen3 models. transformers' reader (5.24) assumes it, whatever the file says."""


def check(config: Any) -> None:
    """Raise ValueError if a model, by its config, would be read back as a different one."""
    if config.model_type not in SPEC.families:
        raise ValueError(f"GGUF: Ratchet writes LLaMA, Qwen2 and Qwen3 models; this is a {config.model_type}.")
    own_width = config.hidden_size // config.num_attention_heads
    odd = {
        "rope_type": config.rope_parameters.get("rope_type", "default") != "default",
        "attention_bias": config.model_type == "qwen3" and config.attention_bias,
        "head_dim": config.model_type == "qwen2" and getattr(config, "head_dim", None) not in (None, own_width),
        f"head_dim {QWEN3_WIDTH} not": config.model_type == "qwen3" and config.head_dim != QWEN3_WIDTH,
        f"hidden_act {config.hidden_act}": config.hidden_act not in ("silu", "swish"),  # the format has no field for it
        "mlp_bias": config.model_type == "llama" and config.mlp_bias,
        "use_sliding_window": getattr(config, "use_sliding_window", False),
    }
    if misfits := [name for name, is_odd in odd.items() if is_odd]:
        raise ValueError(f"No GGUF is written of a {config.model_type} with {', '.join(misfits)} set.")


def places(config: Any) -> Callable[[str], str]:
    """Return a function from a weight's name to its name in GGUF, which raises ValueError for a name that GGUF does not have."""
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)

    def place(name: str) -> str:
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ValueError(f"{name} has no place in a GGUF file of a {config.model_type}: merge adapters first.")
        return target

    return place


def ordered(weight: NDArray[np.float32], name: str, config: Any) -> NDArray[np.float32]:
    """Return the weight of this name with its rows (outputs) in llama.cpp's order."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    layer = name.split(".")[-2]
    return turn(weight, heads[layer]) if config.model_type == "llama" and layer in heads else weight


def turn(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return the rows of each head, (A D, I), in llama.cpp's order: 0, D/2, 1, D/2 + 1, …"""
    size, *features = weight.shape
    return weight.reshape(heads, 2, size // heads // 2, *features).swapaxes(1, 2).reshape(weight.shape)
