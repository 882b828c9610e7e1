"""Losses of a model on texts: the summed negative log-likelihood of each sequence."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from tasks.core.sequences import IGNORE, Encoded
from tasks.engine import context
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.inference.batches import ROWS, Apply, Loaded, Track, here
from tasks.engine.packing import Pack, by_budget, collate

PACK_TOKENS = 2048
"""Tokens of one forward pass: enough to keep the matrices large, few enough to stay in cache."""

TokenLosses = Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """The loss of one sequence."""

    id: str
    nats: float
    """Summed negative log-likelihood of its trained tokens."""
    tokens: int
    """Trained tokens."""


def losses(
    model: PreTrainedModel,
    sequences: Sequence[Encoded],
    track: Track = iter,
    nll: TokenLosses = token_losses,
    apply: Apply | None = None,
) -> Iterator[Loss]:
    """Yield the loss of each sequence, in order of length. A sequence's loss does not depend on the others in its row.

    `nll` returns the loss of each trained token of a row under the model, alone or steered by helpers. `apply` may distribute the rows over
    other processes with the same model.
    The model attends within sequences from here on; generation sets its own attention again (`set_attn_implementation`). Raises ValueError
    for a sequence beyond its context, of which some models give numbers that mean nothing.
    """
    context.check(model, sequences)
    packs = by_budget(sequences, PACK_TOKENS)
    scored = (apply or here(model))(partial(of_pack, nll=nll), packs, len(packs) // ROWS)
    for _, rows in zip(track(range(len(packs))), scored, strict=True):
        yield from rows


@torch.no_grad()
def of_pack(loaded: Loaded, pack: Pack, nll: TokenLosses = token_losses) -> list[Loss]:
    """Return the loss of each sequence of a row."""
    model = loaded.model
    use_packed_attention(model)
    batch = {name: tensor.to(model.device) for name, tensor in collate([pack]).items()}
    trained_T = batch["labels"][0] != IGNORE
    owners_N = batch["segments"][0][trained_T]
    nll_N = nll(model, batch).cpu().double()  # on the CPU, since other devices may lack doubles
    sums = torch.zeros(len(pack.sequences), dtype=torch.float64).index_add_(0, owners_N.cpu(), nll_N)
    counts = torch.bincount(owners_N.cpu(), minlength=len(pack.sequences))
    return [
        Loss(sequence.id, nats, tokens)
        for sequence, nats, tokens in zip(pack.sequences, sums.tolist(), counts.tolist(), strict=True)
    ]


def mean(scored: Iterable[Loss]) -> float:
    """Return nats per token over all sequences. Raises ValueError if none of them has a trained token."""
    rows = list(scored)
    tokens = sum(row.tokens for row in rows)
    if not tokens:
        raise ValueError("There is no token to score: every sequence is empty or all prompt.")
    return sum(row.nats for row in rows) / tokens
