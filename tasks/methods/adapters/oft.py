"""OFT: neurons are turned together by an orthogonal matrix, so that the angles between them stay.

Qiu et al. 2023, https://arxiv.org/abs/2306.07280, sec. 3:  h = (W Rᵀ) x,  R = diag(R₁ … R_r),  Rᵢ = (I − Qᵢ)(I + Qᵢ)⁻¹,  Qᵢᵀ = −Qᵢ
with Q = 0 and so R = I at the start. COFT (sec. 3.3) keeps R near I.
A wrapper over peft's `OFTConfig`, which turns the input rather than the weight and names the size of a block where the paper names
their number r (both as in OFTv2, Qiu et al. 2025, https://arxiv.org/abs/2506.19847).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.core.params import Params
from tasks.core.surgery import sizes
from tasks.methods.adapters import Adapter, _peft

if TYPE_CHECKING:
    from torch import nn


class OftParams(Params):
    """The `methods.oft` section."""

    block_size: int = Field(32, ge=2)
    """Width of a block of R. It divides the inputs of every target."""
    block_share: bool = False
    """Use one block for all places on the diagonal."""
    eps: float | None = Field(None, gt=0)
    """COFT: the norm of each Q is at most eps / √r, 6e-5 in the paper's code; null leaves R free."""
    neumann: bool = False
    """Replace the inverse by five terms of its series, as OFTv2 does: faster, orthogonal only nearly, and turning the other way."""
    targets: tuple[str, ...] | str = "all-linear"
    """Last name segments of the layers to adapt, or `all-linear`: every linear layer but the head."""


def attach(model: nn.Module, params: OftParams) -> nn.Module:
    """Freeze `model` and put Q beside each target. Raises ValueError where one is missing or no multiple of the block."""
    from peft import OFTConfig, TaskType

    for name, (_, into) in sizes(model, params.targets).items():
        if into % params.block_size:
            raise ValueError(f"block_size {params.block_size} does not divide the {into} inputs of {name}.")
    config = OFTConfig(
        oft_block_size=params.block_size,
        block_share=params.block_share,
        coft=params.eps is not None,
        eps=params.eps or 0.0,
        use_cayley_neumann=params.neumann,
        num_cayley_neumann_terms=5,
        target_modules=_peft.named(params.targets),
        task_type=TaskType.CAUSAL_LM,
    )
    return _peft.wrap(model, config)


METHOD = Adapter(params=OftParams, attach=attach, merge=_peft.merge, wraps="peft.OFTConfig")
