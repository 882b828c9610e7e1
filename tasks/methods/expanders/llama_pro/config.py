"""Settings of LLaMA Pro, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.expanders import ExpanderSpec


class LlamaProConfig(Config):
    """The `methods.llama_pro` section."""

    layers: int = Field(8, ge=1)
    """Layers k to copy. The paper makes 40 of LLaMA2-7B's 32."""


SPEC = ExpanderSpec(config=LlamaProConfig)
