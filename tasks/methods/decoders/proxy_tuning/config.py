"""Settings of Proxy-tuning, and what is known of it without torch."""

from pydantic import Field

from tasks.core.config import Params
from tasks.methods.decoders import DecoderSpec


class ProxyTuningConfig(Params):
    """The `methods.proxy_tuning` section."""

    alpha: float = Field(1.0, ge=0)
    """How far to steer: 0 is the large model alone. The paper uses 1, and sweeps 0.2 to 2."""
    steers: str = ""
    """For stage `evaluate`: the folder of the large model. The measured model is the expert, its `base` the antiexpert."""
    digest: str = ""
    """What `steers` holds, by hash: DVC does not watch that folder, so a changed model has to be a changed setting. The stage
    says what to write here."""


SPEC = DecoderSpec(config=ProxyTuningConfig, helpers=("expert", "antiexpert"))
