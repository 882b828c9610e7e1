"""Functions of proxy-tuning. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence

from torch import Tensor

from tasks.methods.decoders import Decoder
from tasks.methods.decoders.proxy_tuning.config import ProxyTuningConfig


def combine(main_BV: Tensor, helpers: Sequence[Tensor], config: ProxyTuningConfig) -> Tensor:
    """Return the large model's logits plus alpha times the expert's minus the antiexpert's."""
    expert_BV, antiexpert_BV = helpers
    return main_BV + config.alpha * (expert_BV - antiexpert_BV)


METHOD = Decoder(combine=combine)
