"""A frozen gated MLP that saves only some of its columns for the backward pass. Equations are in the card, `__init__.py`.

Shapes: T = tokens (of all dimensions but the last), H = hidden size, I = inner width, K = kept columns.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tasks.core.config import share_of


class PrunedMLP:
    """The forward of an MLP, which in training mode saves the columns of the largest norms."""

    def __init__(self, mlp: Any, keep: float) -> None:
        self.mlp, self.inner = mlp, mlp.forward
        self.columns = max(1, share_of(mlp.gate_proj.out_features, keep))

    def __call__(self, x: Tensor) -> Tensor:
        if not (self.mlp.training and torch.is_grad_enabled()):
            exact: Tensor = self.inner(x)
            return exact
        out: Tensor = _Pruned.apply(x, self.mlp, self.columns)  # type: ignore[no-untyped-call]
        return out


class RecomputedNorm:
    """The forward of a norm, which in training mode saves only its input."""

    def __init__(self, norm: Any) -> None:
        self.norm, self.inner = norm, norm.forward

    def __call__(self, x: Tensor) -> Tensor:
        if self.norm.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(self.inner, x, use_reentrant=False, preserve_rng_state=False)
            return again
        out: Tensor = self.inner(x)
        return out


class _Pruned(torch.autograd.Function):
    """The complete MLP in the forward pass, and its gradient through the kept columns in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mlp: Any, columns: int) -> Tensor:
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        active = mlp.act_fn(gate)
        kept_K = (_norms(active) + _norms(up)).topk(columns).indices
        ctx.save_for_backward(gate.index_select(-1, kept_K), up.index_select(-1, kept_K), kept_K)
        ctx.mlp, ctx.dtype = mlp, x.dtype
        out: Tensor = mlp.down_proj(active * up)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gate_TK, up_TK, kept_K = ctx.saved_tensors
        mlp, dtype = ctx.mlp, gate_TK.dtype  # under autocast weights are fp32 and states bf16
        product_TK = gradients[0].to(dtype) @ mlp.down_proj.weight[:, kept_K].to(dtype)
        with torch.enable_grad():
            leaf_TK = gate_TK.detach().requires_grad_()
            active_TK = mlp.act_fn(leaf_TK)
        (of_gate_TK,) = torch.autograd.grad(active_TK, leaf_TK, product_TK * up_TK)
        of_x = of_gate_TK @ mlp.gate_proj.weight[kept_K].to(dtype)
        of_x = of_x + (product_TK * active_TK.detach()) @ mlp.up_proj.weight[kept_K].to(dtype)
        return of_x.to(ctx.dtype), None, None


def _norms(states: Tensor) -> Tensor:
    """Return the norm of each column over all tokens, (I,)."""
    dtype = torch.promote_types(states.dtype, torch.float32)
    norms: Tensor = torch.linalg.vector_norm(states.flatten(0, -2), dim=0, dtype=dtype)
    return norms
