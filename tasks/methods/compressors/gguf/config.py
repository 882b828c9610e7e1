"""Settings of GGUF, and the facts about it that need no torch."""

from typing import Literal

from tasks.core.config import Config
from tasks.methods.compressors import CompressorSpec


class GgufConfig(Config):
    """The `methods.gguf` section."""

    type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = "q8_0"
    """The number type of matrices. In the last five, blocks of 32 share a scale: 8.5, 6, 5.5, 5 and 4.5 bits per weight."""


SPEC = CompressorSpec(
    config=GgufConfig,
    wraps="gguf.GGUFWriter",
    readers={"transformers": "by its `gguf_file`", "gguf": ""},
    families=frozenset({"llama", "qwen2", "qwen3"}),
)
