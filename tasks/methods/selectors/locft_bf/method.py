"""Functions of LocFT-BF. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import nn

from tasks.core.training import Probe
from tasks.core.weights.surgery import decoder_layers
from tasks.methods.selectors import Selector
from tasks.methods.selectors.locft_bf.config import LocftBfConfig

DEPTH = 0.7
"""Relative depth of the layer if none is named."""


def choose(model: nn.Module, config: LocftBfConfig, probe: Probe, seed: int) -> None:
    """Freeze everything but the module. Raises ValueError if the model has no module of this name, or nothing in it trains."""
    layers = decoder_layers(model)
    number = int(DEPTH * len(layers)) if config.layer is None else config.layer
    if number >= len(layers):
        raise ValueError(f"locft_bf.layer is {number}, and the model has the layers 0 to {len(layers) - 1}.")
    modules = dict(layers[number].named_modules())
    if config.module not in modules:
        named = sorted(name for name, module in modules.items() if name and any(True for _ in module.parameters()))
        raise ValueError(
            f"locft_bf.module {config.module!r} is not in a layer of this model. Its modules are: {', '.join(named)}."
        )
    place = [parameter for parameter in modules[config.module].parameters() if parameter.requires_grad]
    if not place:
        raise ValueError(
            f"selector 'locft_bf' trains {config.module or 'the whole'} of layer {number}, and nothing trains there. Where an adapter "
            "holds weights frozen, let it adapt that module."
        )
    model.requires_grad_(False)
    for parameter in place:
        parameter.requires_grad_(True)


METHOD = Selector(choose=choose)
