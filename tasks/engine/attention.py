"""Attention within one text, causal or not: torch's kernel, or products in bf16 where those are quicker.

On a CPU without AMX the kernel of torch 2.13 takes as long in bf16 as in fp32, though products in bf16 are several times as fast
there (AMD EPYC, `benchmarks/attention.py`). So bf16 on a CPU is done here: block by block, each block's products and softmax while
they lie in cache, and once more backwards, so that no scores are kept. Our design.
Shapes: B A T D = batch, heads, tokens that look, head width; K G = heads of keys, heads that share one; S = tokens looked at.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128
"""Tokens that look at a time. What comes after all of them is left out."""


def attend(
    query_BATD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    *,
    before: int | None = 0,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """What each token takes from those that it sees, (B, A, T, D). `scale` of None is 1/√D.

    The first token that looks sees itself and the `before` tokens that come before it, the next one more, and so on; with None
    every one sees all.
    """
    if query_BATD.device.type == "cpu" and _precision(query_BATD) is torch.bfloat16 and not dropout:
        scale = scale or query_BATD.shape[-1] ** -0.5
        found: Tensor = _Products.apply(query_BATD, key_BKSD, value_BKSD, before, scale)  # type: ignore[no-untyped-call]
        return found
    mask = None
    if before:
        shape = query_BATD.shape[2], key_BKSD.shape[2]
        mask = torch.ones(shape, dtype=torch.bool, device=query_BATD.device).tril(before)
    return F.scaled_dot_product_attention(
        query_BATD,
        key_BKSD,
        value_BKSD,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=before == 0,
        scale=scale,
        enable_gqa=query_BATD.shape[1] != key_BKSD.shape[1],
    )


def _precision(query: Tensor) -> torch.dtype:
    """What torch's kernel would compute in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype


class _Products(torch.autograd.Function):
    """Attention as products of matrices. The heads that share keys are rows of one product, R = G × T of a block."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, before: int | None, scale: float) -> Tensor:
        query = query * scale
        ctx.save_for_backward(query, key, value)
        ctx.before, ctx.scale = before, scale
        out = torch.empty_like(query)
        for at, end, _, shares_BKRS in _blocks(query, key, before):
            out[:, :, at] = _heads(shares_BKRS @ value[:, :, :end], query)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        (gradient,) = gradients
        of_query = torch.empty_like(query)
        exact = torch.promote_types(key.dtype, torch.float32)  # of what is summed over blocks
        of_key, of_value = torch.zeros_like(key, dtype=exact), torch.zeros_like(value, dtype=exact)
        for at, end, rows_BKRD, shares_BKRS in _blocks(query, key, ctx.before):
            out_BKRD = _rows(gradient[:, :, at], key)
            of_value[:, :, :end] += shares_BKRS.mT @ out_BKRD
            of_shares = out_BKRD @ value[:, :, :end].mT
            of_scores = torch.ops.aten._softmax_backward_data(of_shares, shares_BKRS, -1, shares_BKRS.dtype)
            of_query[:, :, at] = _heads(of_scores @ key[:, :, :end], query)
            of_key[:, :, :end] += of_scores.mT @ rows_BKRD
        return of_query * ctx.scale, of_key.to(key.dtype), of_value.to(value.dtype), None, None


def _blocks(query_BATD: Tensor, key_BKSD: Tensor, before: int | None) -> Iterator[tuple[slice, int, Tensor, Tensor]]:
    """Of each block: which tokens look, up to where they see, their queries, (B, K, R, D), and whom they heed, (B, K, R, S)."""
    length = query_BATD.shape[2]
    for start in range(0, length, BLOCK):
        at = slice(start, min(start + BLOCK, length))
        end = key_BKSD.shape[2] if before is None else before + at.stop
        rows_BKRD = _rows(query_BATD[:, :, at], key_BKSD)
        scores_BKRS = rows_BKRD @ key_BKSD[:, :, :end].mT
        if before is not None:
            size = at.stop - start
            later = torch.full((size, size), -torch.inf, dtype=scores_BKRS.dtype).triu(1)
            scores_BKRS.view(*scores_BKRS.shape[:2], -1, size, end)[..., -size:] += later
        yield at, end, rows_BKRD, scores_BKRS.softmax(dim=-1)  # torch sums these in fp32


def _rows(states_BATD: Tensor, key_BKSD: Tensor) -> Tensor:
    """Heads as rows beside those that they share keys with, (B, K, R, D)."""
    batch, _, _, width = states_BATD.shape
    return states_BATD.reshape(batch, key_BKSD.shape[1], -1, width)


def _heads(rows_BKRD: Tensor, query_BATD: Tensor) -> Tensor:
    """Rows as heads again, (B, A, T, D)."""
    batch, heads = query_BATD.shape[:2]
    return rows_BKRD.reshape(batch, heads, -1, rows_BKRD.shape[-1])
