"""LLaMA Pro: copies of decoder layers at a uniform stride, neutral at the start, are all that trains.

Wu et al. 2024, https://arxiv.org/abs/2401.02415, section 3.2: the L layers are cut into k groups of L / k, and the top layer of each is
copied on top of it with its output projections W_o and W_down at zero, so that the copy passes its input on.

Our design, not the paper's: where k does not divide L the stride is as even as whole layers allow, and biases of the two
projections are zero too. The paper's P, copies for each group, is 1 as in its models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.training import Probe
from tasks.methods.expanders import Expander

if TYPE_CHECKING:
    from torch import nn


class LlamaProParams(Params):
    """The `methods.llama_pro` section."""

    layers: int = Field(8, ge=1)
    """Layers k to copy. The paper makes 40 of LLaMA2-7B's 32."""


def uniform(depth: int, layers: int) -> list[int]:
    """The top layers of `layers` groups that make up `depth` layers."""
    return [group * depth // layers - 1 for group in range(1, layers + 1)]


def expand(model: nn.Module, params: LlamaProParams, probe: Probe, seed: int) -> dict[str, list[int]]:
    """Copy layers at a uniform stride and let the copies train.

    Returns the places of the `copies` in the grown model, and of their `originals` in the base; no `importance` is measured.
    """
    from tasks.methods.expanders._duplicate import depth, duplicate

    originals = uniform(depth(model, params.layers), params.layers)
    return {"copies": duplicate(model, originals), "originals": originals, "importance": []}


METHOD = Expander(params=LlamaProParams, expand=expand)
