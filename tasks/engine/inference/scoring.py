"""Losses of a model on texts: the summed negative log-likelihood of each sequence."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from tasks.core.sequences import IGNORE, Encoded
from tasks.engine.forward import token_losses, use_packed_attention
from tasks.engine.packing import Pack, by_budget, collate

PACK_TOKENS = 2048
"""Tokens of one forward pass: enough to keep the matrices large, few enough to stay in cache."""

Track = Callable[[Iterable[Pack]], Iterable[Pack]]
TokenLosses = Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Loss:
    """The loss of one sequence."""

    id: str
    nats: float
    """Summed negative log-likelihood of its trained tokens."""
    tokens: int
    """Trained tokens."""


@torch.no_grad()
def losses(
    model: PreTrainedModel, sequences: Sequence[Encoded], track: Track = iter, nll: TokenLosses = token_losses
) -> Iterator[Loss]:
    """Yield the loss of each sequence, in order of length. A sequence's loss does not depend on the others in its row.

    `nll` returns the loss of each trained token of a row under the model, alone or steered by helpers.
    The model attends within sequences from here on; generation sets its own attention again (`set_attn_implementation`).
    """
    use_packed_attention(model)
    for pack in track(by_budget(sequences, PACK_TOKENS)):
        batch = {name: tensor.to(model.device) for name, tensor in collate([pack]).items()}
        trained_T = batch["labels"][0] != IGNORE
        owners_N = batch["segments"][0][trained_T]
        nll_N = nll(model, batch).double()
        sums = torch.zeros(len(pack.sequences), dtype=torch.float64).index_add_(0, owners_N.cpu(), nll_N.cpu())
        counts = torch.bincount(owners_N.cpu(), minlength=len(pack.sequences))
        for sequence, nats, tokens in zip(pack.sequences, sums.tolist(), counts.tolist(), strict=True):
            yield Loss(sequence.id, nats, tokens)


def mean(scored: Iterable[Loss]) -> float:
    """Return nats per token over all sequences. Raises ValueError if none of them has a trained token."""
    rows = list(scored)
    tokens = sum(row.tokens for row in rows)
    if not tokens:
        raise ValueError("There is no token to score: every sequence is empty or all prompt.")
    return sum(row.nats for row in rows) / tokens
