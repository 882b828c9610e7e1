"""Functions of OFT. Equations and the legend of symbols are in the card, `__init__.py`."""

import peft
from torch import nn

from tasks.core.training import Start
from tasks.core.weights.surgery import adapted_sizes
from tasks.methods.adapters import Adapter, _peft
from tasks.methods.adapters.oft.config import OftConfig


def attach(model: nn.Module, config: OftConfig, start: Start) -> nn.Module:
    """Freeze `model` and put Q beside each target. Raises ValueError if one is missing or not a multiple of the block."""
    for name, (_, into) in adapted_sizes(model, config.targets).items():
        if into % config.block_size:
            raise ValueError(f"block_size {config.block_size} does not divide the {into} inputs of {name}.")
    return _peft.wrap(
        model,
        peft.OFTConfig(
            oft_block_size=config.block_size,
            block_share=config.block_share,
            coft=config.eps is not None,
            eps=config.eps or 0.0,
            use_cayley_neumann=config.neumann,
            num_cayley_neumann_terms=5,
            target_modules=_peft.named(config.targets),
            task_type=peft.TaskType.CAUSAL_LM,
        ),
    )


METHOD = Adapter(attach=attach, merge=_peft.merge)
