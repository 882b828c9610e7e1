"""Functions of Proxy-tuning. Equations and the legend of shapes are in the docstring of the package."""

from collections.abc import Sequence

from torch import Tensor

from tasks.methods.decoders import Decoder
from tasks.methods.decoders.proxy_tuning.config import ProxyTuningConfig


def combine(main_BV: Tensor, helpers: Sequence[Tensor], config: ProxyTuningConfig) -> Tensor:
    """The large model's logits, moved by the expert's minus the antiexpert's."""
    expert_BV, antiexpert_BV = helpers
    return main_BV + config.alpha * (expert_BV - antiexpert_BV)


METHOD = Decoder(combine=combine)
