"""Settings of LLM.int8(), and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.bases import BaseSpec


class Int8Config(Config):
    """The `methods.int8` section."""

    threshold: float = Field(6.0, ge=0)
    """A feature with a number at least this large is an outlier and is multiplied in 16 bits; 0 multiplies all as integers."""


SPEC = BaseSpec(config=Int8Config, wraps="transformers.BitsAndBytesConfig")
