"""Settings of LLaMA Pro, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.expanders import ExpanderSpec


class LlamaProConfig(Config):
    """The `methods.llama_pro` section."""

    layers: int = Field(8, ge=1)
    """Number k of layers to copy. The paper grows LLaMA2-7B from 32 to 40 layers."""


SPEC = ExpanderSpec(config=LlamaProConfig)
