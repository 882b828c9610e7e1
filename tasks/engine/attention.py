"""Attention within one text, causal or not: by torch's kernel, or by products in bf16 where those are faster.

On AMD CPUs the kernel of torch 2.13 takes as long in bf16 as in fp32, although matrix products in bf16 are several times as fast there
(`benchmarks/attention.py`). So bf16 attention on them is computed here, block by block. The products and the softmax of a block are
computed while the block is in the CPU cache, and recomputed in the backward pass, so that no scores are stored. Our design.
Shapes: B A T D = batch, heads, queries, head width; K G = heads of keys, query heads that share one; S = keys.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.engine.device import is_amd_with_bf16

BLOCK = 128
"""Queries of a block. In causal attention, keys after the block's last query are left out."""
BY_MASK = frozenset({"phimoe", "qwen2_moe"})
"""Families that apply their window through the mask alone and do not pass it to the attention function."""


class UnsupportedAttentionError(ValueError):
    """A model's attention has a feature that `attend` lacks."""


def attend(
    query_BATD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    *,
    before: int | None = 0,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    places: Tensor | None = None,
) -> Tensor:
    """Return the attention of each query to its keys, (B, A, T, D). `scale` of None is 1/√D.

    Attention is causal: the first query attends to itself and to the `before` tokens before it, the second query to one more, and so on.
    With `before` of None every query attends to all keys. With a `window` a query attends only to keys that are fewer than `window` tokens
    away. Where the queries and keys are only some of a text's tokens, `places`, (T,), ascending, holds their positions in the text, and
    distances are counted between these.
    """
    on_cpu = query_BATD.device.type == "cpu"
    narrow = window is not None and window < (key_BKSD.shape[2] if places is None else int(places[-1] - places[0]) + 1)
    if on_cpu and not dropout and not narrow and _precision(query_BATD) is torch.bfloat16 and is_amd_with_bf16():
        return by_products(query_BATD, key_BKSD, value_BKSD, before=before, scale=scale)
    mask = _seen(query_BATD, key_BKSD, before, window, places) if before or narrow else None
    return F.scaled_dot_product_attention(
        query_BATD,
        key_BKSD,
        value_BKSD,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=before == 0 and mask is None,
        scale=scale,
        enable_gqa=query_BATD.shape[1] != key_BKSD.shape[1],
    )


def _seen(
    query_BATD: Tensor, key_BKSD: Tensor, before: int | None, window: int | None, places: Tensor | None = None
) -> Tensor:
    """Return a mask, (T, S): True for each key that a query attends to."""
    places_T, places_S = (
        torch.arange(one.shape[2], device=one.device) if places is None else places for one in (query_BATD, key_BKSD)
    )
    back_TS = places_T[:, None] + (before or 0) - places_S
    seen_TS = back_TS.abs() < (window or key_BKSD.shape[2])
    return seen_TS if before is None else seen_TS & (back_TS >= 0)


def window(module: nn.Module, told: int | None) -> int | None:
    """Return the window of a model's attention: `told`, which the attention function was given, or the config's for families of `BY_MASK`."""
    config: Any = getattr(module, "config", None)
    if getattr(config, "model_type", "") not in BY_MASK:
        return told
    kinds, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", 0)
    return config.sliding_window if kinds is None or kinds[layer] == "sliding_attention" else None


def check(module: nn.Module, softcap: float | None, s_aux: Tensor | None) -> None:
    """Raise UnsupportedAttentionError for a model whose attention has features that `attend` lacks: capped scores, or sinks beside the keys."""
    further = [name for name, value in (("caps its scores", softcap), ("has sinks", s_aux)) if value is not None]
    if further:
        family = getattr(getattr(module, "config", None), "model_type", type(module).__name__)
        raise UnsupportedAttentionError(
            f"Attention of family {family} {' and '.join(further)}, which attention within the sequences of a row does not. "
            "Take a base of another family, for example llama, qwen2, qwen3 or olmo2."
        )


def by_products(
    query_BATD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    *,
    before: int | None = 0,
    scale: float | None = None,
) -> Tensor:
    """Return the same as `attend`, always by matrix products, on any machine and in any precision."""
    scale = scale or query_BATD.shape[-1] ** -0.5
    output: Tensor = _Products.apply(query_BATD, key_BKSD, value_BKSD, before, scale)  # type: ignore[no-untyped-call]
    return output


def _precision(query: Tensor) -> torch.dtype:
    """Return the type that torch's kernel would compute in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype


class _Products(torch.autograd.Function):
    """Attention as matrix products. The queries of all heads that share keys are rows of one matrix, token by token: R = T × G."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, before: int | None, scale: float) -> Tensor:
        ctx.before, ctx.scale, ctx.shared = before, scale, query.shape[1] // key.shape[1]
        rows_BKRD, key = _rows(query, ctx.shared), key * scale
        ctx.save_for_backward(rows_BKRD, key, value)
        outputs = [weights @ value[:, :, :end] for _, end, weights in _blocks(rows_BKRD, key, before, ctx.shared)]
        return _heads(torch.cat(outputs, dim=2), ctx.shared)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows_BKRD, key, value = ctx.saved_tensors
        gradient_BKRD = _rows(gradients[0], ctx.shared)
        exact = torch.promote_types(key.dtype, torch.float32)  # gradients that are summed over blocks
        of_key, of_value = torch.zeros_like(key, dtype=exact), torch.zeros_like(value, dtype=exact)
        of_rows = []
        for at, end, weights_BKRS in _blocks(rows_BKRD, key, ctx.before, ctx.shared):
            of_value[:, :, :end] += weights_BKRS.mT @ gradient_BKRD[:, :, at]
            of_weights = gradient_BKRD[:, :, at] @ value[:, :, :end].mT
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights_BKRS, -1, weights_BKRS.dtype)
            of_rows.append(of_scores @ key[:, :, :end])
            of_key[:, :, :end] += of_scores.mT @ rows_BKRD[:, :, at]
        of_query = _heads(torch.cat(of_rows, dim=2), ctx.shared)
        return of_query, (of_key * ctx.scale).to(key.dtype), of_value.to(value.dtype), None, None


def _blocks(
    rows_BKRD: Tensor, key_BKSD: Tensor, before: int | None, shared: int
) -> Iterator[tuple[slice, int, Tensor]]:
    """Yield each block of queries: its rows, the end of its keys, and its attention weights, (B, K, R, S)."""
    length = rows_BKRD.shape[2] // shared
    widest = min(length, BLOCK)
    later = torch.full((widest, widest), -torch.inf, dtype=rows_BKRD.dtype).triu(1)[:, None]
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        at, size = slice(start * shared, stop * shared), stop - start
        end = key_BKSD.shape[2] if before is None else before + stop
        scores_BKRS = rows_BKRD[:, :, at] @ key_BKSD[:, :, :end].mT
        if before is not None:
            scores_BKRS.view(*scores_BKRS.shape[:2], size, shared, end)[..., -size:] += later[:size, :, :size]
        yield at, end, scores_BKRS.softmax(dim=-1)  # summed in fp32


def _rows(states_BATD: Tensor, shared: int) -> Tensor:
    """Return the states as one matrix for each group of heads that share keys, ordered by token, then head, (B, K, R, D)."""
    batch, heads, length, width = states_BATD.shape
    states_BKGTD = states_BATD.reshape(batch, heads // shared, shared, length, width)
    return states_BKGTD.transpose(2, 3).reshape(batch, heads // shared, length * shared, width)


def _heads(rows_BKRD: Tensor, shared: int) -> Tensor:
    """Undo `_rows`: return the states by heads, (B, A, T, D)."""
    batch, groups, rows, width = rows_BKRD.shape
    states_BTKGD = rows_BKRD.view(batch, groups, rows // shared, shared, width).transpose(1, 2)
    return states_BTKGD.reshape(batch, rows // shared, groups * shared, width).transpose(1, 2)
