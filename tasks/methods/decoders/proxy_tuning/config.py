"""Settings of proxy-tuning, and the facts about it that need no torch."""

from pydantic import Field

from tasks.core.config import Config
from tasks.methods.decoders import DecoderSpec


class ProxyTuningConfig(Config):
    """The `methods.proxy_tuning` section."""

    alpha: float = Field(1.0, ge=0)
    """The strength of steering: 0 is the large model alone. The paper uses 1, and sweeps 0.2 to 2."""
    steers: str = ""
    """The folder of the large model, for stage `evaluate`. The measured model is the expert, its `base` the antiexpert."""
    digest: str = ""
    """The hash of the contents of `steers`. DVC does not watch that folder, so a changed model must be visible as a changed setting. If
    the hash does not match, the stage's error says what to write here."""


SPEC = DecoderSpec(config=ProxyTuningConfig, helpers=("expert", "antiexpert"))
