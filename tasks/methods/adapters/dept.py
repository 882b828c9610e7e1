"""DePT, decomposed prompt tuning: a shorter trained prompt, and with what that saves low-rank offsets on the embeddings.

Shi & Lipani, ICLR 2024, https://arxiv.org/abs/2309.05173. The decoder reads, in place of the embeddings E of a sequence,

    X = [P; E + c A B],  c = alpha / sqrt(rank),  B = 0 at the start

Row t of A B belongs to position t of the sequence, whatever token stands there. P, A and B train, at two learning rates; the
model is frozen. `rank: 0` is plain prompt tuning (Lester et al. 2021, https://arxiv.org/abs/2104.08691), step by step. The two
are alike in size where l H = m H + (s + H) R for l prompt tokens without offsets and m with them, s = `max_tokens`; with H = 768
and s = 256, l = 100 is (m, R) = (20, 60), (40, 45), (60, 30) or (80, 15). A prompt costs its length in every sequence, in
training and after; the offsets cost next to nothing.

Shapes: B = rows, T = tokens of a row, M = prompt tokens, L = longest sequence, R = rank, H = hidden size.

Our design, not the paper's:
- Its offsets stand on the encoder's input (T5), which has the whole source before anything is written. A decoder has one
  sequence: a token's offset is that of its own position, in the prompt as in the response, trained as written.
- P starts as the embeddings of tokens drawn from the vocabulary, as in Lester et al.; the authors' code takes a fixed
  English sentence, which would need the tokenizer.
- The scale c and alpha = 8 are of the authors' code alone.
- Rows are cut to the length of the sequence; the authors pad every input to L.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.core.params import Params
from tasks.core.surgery import plain
from tasks.methods.adapters import Adapter

if TYPE_CHECKING:
    from torch import Tensor, nn


class DeptParams(Params):
    """The `methods.dept` section."""

    num_tokens: int = Field(40, ge=0)
    """Length M of the prompt."""
    rank: int = Field(30, ge=0)
    """Inner width R of the offsets; 0 is plain prompt tuning."""
    max_tokens: int = Field(1024, ge=1)
    """Rows L of A: the longest sequence, what the model writes included. A longer one is refused. Nothing where `rank` is 0."""
    alpha: float = Field(8.0, gt=0)
    """The offsets are scaled by alpha / sqrt(rank)."""
    align: Literal["left", "official"] = "left"
    """The row of a token. `left`: its position in its sequence. `official`, to compare with the authors' code: as if the
    sequence ended at row L, and none for tokens that are written, so that training and generation differ."""
    prompt_rate: float = Field(600.0, gt=0)
    """Learning rate of P, in times the optimizer's, which is that of A and B: the paper's 3e-1 over 5e-4, found on T5. Where
    embeddings are narrow less does better: on SmolLM2-135M (a spread of 0.14) 60 learned sooner than 600."""

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if not self.num_tokens and not self.rank:
            raise ValueError("num_tokens and rank are both 0, so that nothing would train. Raise one of them.")
        return self


def start(embedding: nn.Module, params: DeptParams) -> dict[str, Tensor]:
    """P, A and B before training, in fp32 even under a bf16 model: P takes steps that bf16 would lose.

    Raises ValueError for a rank that A B, a product of L × R and R × H, cannot have.
    """
    import torch
    from torch import nn

    table_VH: Tensor = embedding.weight  # type: ignore[assignment]
    size = (params.max_tokens, table_VH.shape[1])
    if params.rank > min(size):
        raise ValueError(
            f"rank {params.rank} is above the offsets, which are {size[0]} (max_tokens) × {size[1]}: take at most {min(size)}."
        )
    found: dict[str, Tensor] = {}
    if params.num_tokens:
        drawn_M = torch.randint(table_VH.shape[0], (params.num_tokens,))
        found["prompt"] = embedding(drawn_M.to(table_VH.device)).detach().float()
    if params.rank:
        found["A"] = nn.init.kaiming_uniform_(torch.empty(params.max_tokens, params.rank), a=5**0.5).to(table_VH.device)
        found["B"] = torch.zeros(params.rank, table_VH.shape[1], device=table_VH.device)
    return found


def offsets(dept: nn.ParameterDict, rows_BT: Tensor, params: DeptParams) -> Tensor:
    """c A B at these rows, (B, T, H)."""
    from torch.nn import functional as F

    return params.alpha / params.rank**0.5 * F.embedding(rows_BT, dept["A"]) @ dept["B"]


def rows(positions_BT: Tensor, boundaries: Tensor | None, params: DeptParams) -> Tensor:
    """The row of A for each token. Raises ValueError for a sequence that has more tokens than A has rows."""
    longest = int(positions_BT.max()) + 1
    if longest > params.max_tokens:
        raise ValueError(
            f"A sequence has {longest} tokens, and methods.dept.max_tokens is {params.max_tokens}: "
            "train with as many rows as the longest sequence has tokens, written ones included."
        )
    if params.align == "left":
        return positions_BT
    lengths = positions_BT.amax(1, keepdim=True) + 1 if boundaries is None else _each_tokens_length(boundaries)
    return positions_BT + params.max_tokens - lengths


def attach(model: nn.Module, params: DeptParams) -> nn.Module:
    """Freeze `model` and let its decoder read X. What the decoder gives back is that of the tokens alone.

    Raises ValueError for a rank above the longest sequence or the hidden size.
    """
    from torch import nn

    model.requires_grad_(False)
    decoder: Any = plain(model).get_decoder()  # type: ignore[operator]
    first = start(decoder.get_input_embeddings(), params)
    decoder.dept = nn.ParameterDict({name: nn.Parameter(tensor) for name, tensor in first.items()})
    decoder.register_forward_pre_hook(partial(_before, params=params), with_kwargs=True)
    decoder.register_forward_hook(partial(_after, params=params), with_kwargs=True)
    return model


def rates(model: nn.Module, params: DeptParams) -> Mapping[str, float]:
    """P learns at a rate of its own."""
    return {name: params.prompt_rate for name, _ in model.named_parameters() if name.endswith(".dept.prompt")}


def _before(
    decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, params: DeptParams
) -> tuple[tuple[()], dict[str, Any]]:
    """What the decoder is called with, made to have P before every sequence and the offsets on its tokens.

    Three ways to call it: a packed row, whose sequences `boundaries` parts; rows of one sequence each, padded or not; and, with
    a cache that holds P already, tokens that go on from it.
    """
    import inspect

    import torch

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
        positions_BT = _positions(tokens_BTH, mask, held - params.num_tokens if held else 0)
    if params.rank and (params.align == "left" or not held):
        added_BTH = offsets(decoder.dept, rows(positions_BT, boundaries, params), params)
        tokens_BTH = tokens_BTH + added_BTH.to(tokens_BTH.dtype)

    positions_BT = positions_BT + params.num_tokens
    if params.num_tokens and not held:
        edges = [0, tokens_BTH.shape[1]] if boundaries is None else boundaries.tolist()
        prompt_MH = decoder.dept["prompt"].to(tokens_BTH.dtype)
        tokens_BTH = _insert(prompt_MH, tokens_BTH, edges)
        positions_BT = _insert(torch.arange(params.num_tokens, device=positions_BT.device), positions_BT, edges)
        if boundaries is not None:
            given["boundaries"] = boundaries + params.num_tokens * torch.arange(len(edges)).to(boundaries)
    if mask is not None:
        given["attention_mask"] = _insert(mask.new_ones(params.num_tokens), mask, [0, mask.shape[1]])
    return (), given | {"inputs_embeds": tokens_BTH, "position_ids": positions_BT}


def _after(decoder: Any, args: tuple[()], kwargs: dict[str, Any], output: Any, *, params: DeptParams) -> Any:
    """The decoder's output without P, whose positions are the first M."""
    tokens_T = kwargs["position_ids"][0] >= params.num_tokens
    output.last_hidden_state = output.last_hidden_state[:, tokens_T]
    return output


def _insert(front: Tensor, row_BT: Tensor, edges: Sequence[int]) -> Tensor:
    """`row_BT` with `front` before each stretch between two edges."""
    from itertools import pairwise

    import torch

    front_BM = front.expand(row_BT.shape[0], *front.shape)
    return torch.cat([part for start, end in pairwise(edges) for part in (front_BM, row_BT[:, start:end])], dim=1)


def _positions(tokens_BTH: Tensor, mask: Tensor | None, seen: int) -> Tensor:
    """Each token's place among its row's tokens, pads not counted, of which `seen` came before."""
    import torch

    num_tokens = tokens_BTH.shape[1]
    if mask is None:
        return torch.arange(seen, seen + num_tokens, device=tokens_BTH.device)[None]
    return (mask.long().cumsum(1) - 1).clamp(min=0)[:, -num_tokens:]


def _each_tokens_length(boundaries: Tensor) -> Tensor:
    """For each token of a packed row the length of its sequence, (1, T)."""
    lengths_S = boundaries.diff()
    return lengths_S.repeat_interleave(lengths_S)[None]


METHOD = Adapter(
    params=DeptParams,
    attach=attach,
    merge=None,
    rates=rates,
    difference="A prompt stands before every sequence; with `num_tokens: 0` there is none.",
)
