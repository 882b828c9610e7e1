"""Functions of LLaMA Pro. Equations and the legend of symbols are in the card, `__init__.py`."""

from torch import nn

from tasks.core.training import Probe
from tasks.methods.expanders import Expander
from tasks.methods.expanders._duplicate import depth, duplicate
from tasks.methods.expanders.llama_pro.config import LlamaProConfig


def uniform(depth: int, layers: int) -> list[int]:
    """Return the top layer of each of `layers` groups into which `depth` layers are cut."""
    return [group * depth // layers - 1 for group in range(1, layers + 1)]


def expand(model: nn.Module, config: LlamaProConfig, probe: Probe, seed: int) -> dict[str, list[int]]:
    """Copy layers at a uniform stride and let the copies train.

    Returns the places of the `copies` in the grown model, and of their `originals` in the base; no `importance` is measured.
    """
    originals = uniform(depth(model, config.layers), config.layers)
    return {"copies": duplicate(model, originals), "originals": originals, "importance": []}


METHOD = Expander(expand=expand)
