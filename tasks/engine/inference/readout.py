"""Read the logits of a few tokens after each of several continuations of one text, from one forward pass.

The shared text, the trunk, is read once, except by models that read each text alone (`reads_alone`) or do not accept our attention. A
branch continues the first tokens of its trunk, and attends to these and to itself.
Trees share rows without padding and do not affect each other.
Shapes: T = tokens of a row, H = hidden size, Q = branches, C = candidates, B A D = batch, heads, head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from tasks.core.sequences import Encoded
from tasks.engine.attention import attend, check, window
from tasks.engine.forward import Head, hidden_states, reads_alone, scale_of_logits, use_packed_attention
from tasks.engine.inference.batches import ROWS, Apply, Loaded, Track, here
from tasks.engine.inference.scoring import PACK_TOKENS
from tasks.engine.packing import Pack, collate, groups

ATTENTION = "ratchet_branches"


@dataclass(frozen=True)
class Branch:
    """A continuation of a trunk."""

    stands_on: int
    """Tokens of the trunk that come before it."""
    ids: Sequence[int]


@dataclass(frozen=True)
class Tree:
    """A text and its continuations."""

    trunk: Sequence[int]
    branches: Sequence[Branch]

    def __len__(self) -> int:
        return len(self.trunk) + sum(len(branch.ids) for branch in self.branches)


@dataclass(frozen=True)
class _Piece:
    """Consecutive tokens of a row, and the number of their trunk's tokens that they also attend to."""

    start: int
    end: int
    root: int
    seen: int

    def sees(self, states_BATD: Tensor) -> Tensor:
        """Return the states of the row that the piece attends to: its trunk's and its own."""
        trunk = states_BATD[:, :, self.root : self.root + self.seen]
        return torch.cat([trunk, states_BATD[:, :, self.start : self.end]], dim=2)


def branch_attention(
    module: nn.Module,
    query_BATD: Tensor,
    key_BATD: Tensor,
    value_BATD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    pieces: Sequence[_Piece],
    **_: Any,
) -> tuple[Tensor, None]:
    """Return the causal attention of each piece to itself and to its trunk, (B, T, A, D)."""
    check(module, softcap, s_aux)
    outputs = [
        attend(
            query_BATD[:, :, piece.start : piece.end],
            piece.sees(key_BATD),
            piece.sees(value_BATD),
            before=piece.seen,
            window=window(module, sliding_window),
            scale=scaling,
        )
        for piece in pieces
    ]
    return torch.cat([output_BATD.transpose(1, 2) for output_BATD in outputs], dim=1), None


AttentionInterface.register(ATTENTION, branch_attention)
AttentionMaskInterface.register(ATTENTION, lambda **_: None)


def log_odds(
    model: PreTrainedModel,
    trees: Sequence[Tree],
    candidates: Sequence[int],
    track: Track = iter,
    apply: Apply | None = None,
) -> list[NDArray[np.float64]]:
    """Return the logits of the candidate tokens after each branch, (Q, C) for each tree, in the order of the trees.

    `apply` may distribute the rows over other processes with the same model.
    """
    rows = list(groups(range(len(trees)), PACK_TOKENS, lambda number: len(trees[number])))
    read = (apply or here(model))(
        partial(of_row, candidates=candidates), ([trees[number] for number in row] for row in rows), len(rows) // ROWS
    )
    logits: dict[int, NDArray[np.float64]] = {}
    for row, of_trees in zip(track(rows), read, strict=True):
        logits |= zip(row, of_trees, strict=True)
    return [logits[number] for number in range(len(trees))]


@torch.no_grad()
def of_row(loaded: Loaded, trees: Sequence[Tree], candidates: Sequence[int]) -> list[NDArray[np.float64]]:
    """Return the logits of the candidate tokens after each branch of the trees of a row."""
    model = loaded.model
    if model.config._attn_implementation != ATTENTION:
        use_packed_attention(model)  # its first call checks the model
    hidden_QH = _of_pieces(model, trees) if _branches(model) else _of_texts(model, trees)
    head, chosen = Head.of(model), torch.tensor(list(candidates), device=model.device)
    of_chosen = head._replace(weight=head.weight[chosen], bias=None if head.bias is None else head.bias[chosen].float())
    logits_QC = of_chosen.logits(hidden_QH.float() * scale_of_logits(model)).cpu().double().numpy()
    return np.split(logits_QC, np.cumsum([len(tree.branches) for tree in trees])[:-1])


def _branches(model: PreTrainedModel) -> bool:
    """Return True if `branch_attention` is the model's attention from now on.

    It is not for models that read texts alone, nor for families that compute attention by themselves (Falcon, GPT-Neo): transformers then
    warns and keeps theirs.
    """
    if reads_alone(model):
        return False
    if model.config._attn_implementation != ATTENTION:
        model.set_attn_implementation(ATTENTION)
    return bool(model.config._attn_implementation == ATTENTION)


def _of_pieces(model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
    """Return the last hidden state of each branch's last token, (Q, H), from one pass over all trees."""
    row, pieces, ends = _row(trees)
    inputs = {name: values.to(model.device) for name, values in row.items()}
    hidden_TH: Tensor = model.get_decoder()(**inputs, pieces=pieces, use_cache=False).last_hidden_state[0]
    return hidden_TH[ends]


def _of_texts(model: PreTrainedModel, trees: Sequence[Tree]) -> Tensor:
    """Return the same as `_of_pieces`, from one text for each branch: its trunk's tokens and its own."""
    texts = [[*tree.trunk[: branch.stands_on], *branch.ids] for tree in trees for branch in tree.branches]
    sequences = tuple(Encoded("", ids, [1.0] * len(ids)) for ids in texts)
    row = {name: values.to(model.device) for name, values in collate([Pack(sequences)]).items()}
    return hidden_states(model, row)[row["boundaries"][1:].long() - 1]


def _row(trees: Sequence[Tree]) -> tuple[dict[str, Tensor], list[_Piece], list[int]]:
    """Return the tensors of a row of trees, (1, T), its pieces, and the index of each branch's last token."""
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[_Piece] = []
    ends: list[int] = []
    for tree in trees:
        root = len(ids)
        for stands_on, tokens in ((0, tree.trunk), *((branch.stands_on, branch.ids) for branch in tree.branches)):
            pieces.append(_Piece(len(ids), len(ids) + len(tokens), root, stands_on))
            ids += tokens
            positions += range(stands_on, stands_on + len(tokens))
            ends.append(len(ids) - 1)
        del ends[-len(tree.branches) - 1]  # the end of the trunk itself
    return {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}, pieces, ends
