"""Functions of DePT. Equations and the legend of symbols are in the card, `__init__.py`."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.core.training import Start
from tasks.core.weights.surgery import plain
from tasks.methods.adapters import Adapter
from tasks.methods.adapters.dept.config import DeptConfig


def first_tensors(embedding: nn.Module, config: DeptConfig) -> dict[str, Tensor]:
    """Return P, A and B before training, in fp32 even under a bf16 model, because bf16 would lose P's small steps.

    Raises ValueError for a rank that A B, a product of L × R and R × H, cannot have.
    """
    table_VH: Tensor = embedding.weight  # type: ignore[assignment]
    size = (config.max_tokens, table_VH.shape[1])
    if config.rank > min(size):
        raise ValueError(
            f"rank {config.rank} is above the offsets, which are {size[0]} (max_tokens) × {size[1]}: take at most {min(size)}."
        )
    tensors: dict[str, Tensor] = {}
    if config.num_tokens:
        drawn_M = torch.randint(table_VH.shape[0], (config.num_tokens,))
        tensors["prompt"] = embedding(drawn_M.to(table_VH.device)).detach().float()
    if config.rank:
        tensors["A"] = nn.init.kaiming_uniform_(torch.empty(config.max_tokens, config.rank), a=5**0.5).to(
            table_VH.device
        )
        tensors["B"] = torch.zeros(config.rank, table_VH.shape[1], device=table_VH.device)
    return tensors


def offsets(dept: nn.ParameterDict, rows_BT: Tensor, config: DeptConfig) -> Tensor:
    """Return c A B at these rows, (B, T, H)."""
    return config.alpha / config.rank**0.5 * F.embedding(rows_BT, dept["A"]) @ dept["B"]


def rows(positions_BT: Tensor, boundaries: Tensor | None, config: DeptConfig) -> Tensor:
    """Return the row of A for each token. Raises ValueError for a sequence that has more tokens than A has rows."""
    longest = int(positions_BT.max()) + 1
    if longest > config.max_tokens:
        raise ValueError(
            f"A sequence has {longest} tokens, and methods.dept.max_tokens is {config.max_tokens}: "
            "train with at least as many rows as the longest sequence has tokens, generated ones included."
        )
    if config.align == "left":
        return positions_BT
    lengths = positions_BT.amax(1, keepdim=True) + 1 if boundaries is None else _each_tokens_length(boundaries)
    return positions_BT + config.max_tokens - lengths


def attach(model: nn.Module, config: DeptConfig, start: Start) -> nn.Module:
    """Freeze `model` and let its decoder read X. The decoder's output is that of the tokens alone.

    Raises ValueError for a rank above the longest sequence or the hidden size, and for a family without attention: its states do not show
    whether they already hold P, so generation would fail or give wrong answers.
    """
    inner: Any = plain(model)
    config_of_model = inner.config.get_text_config()
    kinds = set(getattr(config_of_model, "layer_types", None) or ())
    if getattr(inner, "_is_stateful", False) and kinds <= {"linear_attention"}:
        raise ValueError(
            f"Family {config_of_model.model_type} has no attention, and dept needs the keys of attention. Use adapter lora."
        )
    model.requires_grad_(False)
    decoder: Any = inner.get_decoder()
    first = first_tensors(decoder.get_input_embeddings(), config)
    decoder.dept = nn.ParameterDict({name: nn.Parameter(tensor) for name, tensor in first.items()})
    decoder.register_forward_pre_hook(partial(_before, config=config), with_kwargs=True)
    decoder.register_forward_hook(partial(_after, config=config), with_kwargs=True)
    return model


def rates(model: nn.Module, config: DeptConfig) -> Mapping[str, float]:
    """Return the learning rate of P, by parameter."""
    return {name: config.prompt_rate for name, _ in model.named_parameters() if name.endswith(".dept.prompt")}


def _before(
    decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, config: DeptConfig
) -> tuple[tuple[()], dict[str, Any]]:
    """Put P before every sequence that the decoder is called with, and add the offsets to the sequence's tokens.

    The decoder is called in three ways: with a packed row, whose sequences `boundaries` separates; with rows of one sequence each, padded or
    not; and, with a cache that already holds P, with the tokens that follow.
    """
    given = inspect.signature(decoder.forward).bind_partial(*args).arguments | kwargs
    ids, tokens_BTH = given.pop("input_ids", None), given.pop("inputs_embeds", None)
    mask, boundaries = given.get("attention_mask"), given.get("boundaries")
    cache = given.get("cache", given.get("past_key_values"))  # its name in older transformers
    if isinstance(mask, dict) or (mask is not None and mask.ndim != 2) or getattr(cache, "is_compileable", False):
        raise ValueError(
            "dept puts its prompt into the cache and into a mask of (rows, tokens): generate without a static cache."
        )
    if tokens_BTH is None:
        tokens_BTH = decoder.get_input_embeddings()(ids)
    held = 0 if cache is None else int(cache.get_seq_length())

    positions_BT = given.get("position_ids")
    if positions_BT is None:
        positions_BT = _positions(tokens_BTH, mask, held - config.num_tokens if held else 0)
    if config.rank and (config.align == "left" or not held):
        added_BTH = offsets(decoder.dept, rows(positions_BT, boundaries, config), config)
        tokens_BTH = tokens_BTH + added_BTH.to(tokens_BTH.dtype)

    positions_BT = positions_BT + config.num_tokens
    if config.num_tokens and not held:
        edges = [0, tokens_BTH.shape[1]] if boundaries is None else boundaries.tolist()
        prompt_MH = decoder.dept["prompt"].to(tokens_BTH.dtype)
        tokens_BTH = _insert(prompt_MH, tokens_BTH, edges)
        positions_BT = _insert(torch.arange(config.num_tokens, device=positions_BT.device), positions_BT, edges)
        if boundaries is not None:
            given["boundaries"] = boundaries + config.num_tokens * torch.arange(len(edges)).to(boundaries)
    if mask is not None:
        given["attention_mask"] = _insert(mask.new_ones(config.num_tokens), mask, [0, mask.shape[1]])
    return (), given | {"inputs_embeds": tokens_BTH, "position_ids": positions_BT}


def _after(decoder: Any, args: tuple[()], kwargs: dict[str, Any], output: Any, *, config: DeptConfig) -> Any:
    """Return the decoder's output without P, whose positions are the first M."""
    tokens_T = kwargs["position_ids"][0] >= config.num_tokens
    output.last_hidden_state = output.last_hidden_state[:, tokens_T]
    return output


def _insert(front: Tensor, row_BT: Tensor, edges: Sequence[int]) -> Tensor:
    """Return `row_BT` with `front` inserted before each stretch between two edges."""
    front_BM = front.expand(row_BT.shape[0], *front.shape)
    return torch.cat([part for start, end in pairwise(edges) for part in (front_BM, row_BT[:, start:end])], dim=1)


def _positions(tokens_BTH: Tensor, mask: Tensor | None, seen: int) -> Tensor:
    """Return each token's position in its row, without padding; `seen` tokens came before."""
    num_tokens = tokens_BTH.shape[1]
    if mask is None:
        return torch.arange(seen, seen + num_tokens, device=tokens_BTH.device)[None]
    return (mask.long().cumsum(1) - 1).clamp(min=0)[:, -num_tokens:]


def _each_tokens_length(boundaries: Tensor) -> Tensor:
    """Return, for each token of a packed row, the length of its sequence, (1, T)."""
    lengths_S = boundaries.diff()
    return lengths_S.repeat_interleave(lengths_S)[None]


METHOD = Adapter(attach=attach, rates=rates)
