"""Which documents train, and which are only looked at."""

import random
from collections.abc import Sequence

from tasks.core.sequences import Encoded
from tasks.engine import encode


def set_aside(sequences: Sequence[Encoded], tokens: int) -> tuple[list[Encoded], list[Encoded]]:
    """The first sequences, about `tokens` tokens of them, to look at, and those of the other documents, which may train."""
    looked_at = encode.take(sequences, tokens)
    known = {sequence.id for sequence in looked_at}
    return looked_at, [sequence for sequence in sequences if sequence.id not in known]


def with_replay(
    domain: Sequence[Encoded], general: Sequence[Encoded], share: float, tokens: int, seed: int
) -> list[Encoded]:
    """Sequences of both corpora for one pass of at most about `tokens` tokens, of which `share` is general.

    Where the domain has less, the pass is shorter and the share stays. Replay of this kind is in Ibrahim et al. 2024,
    https://arxiv.org/abs/2403.08763, section 3.2. Raises ValueError where the general corpus is too small for it.
    """
    whole = min(tokens, sum(map(len, domain)) / (1 - share))
    wanted, there = round(share * whole), sum(map(len, general))
    if there < wanted:
        raise ValueError(
            f"pretrain.replay={share:g} of {whole:,.0f} tokens is {wanted:,} tokens of general text, and beside the probe there are "
            f"{there:,}. Name more sources in ingest.corpora.general, or lower pretrain.replay, max_tokens or probe_tokens."
        )
    order = random.Random(f"{seed}/replay")
    return [*_some(domain, round((1 - share) * whole), order), *_some(general, wanted, order)]


def _some(sequences: Sequence[Encoded], tokens: int, order: random.Random) -> list[Encoded]:
    """Sequences drawn without replacement until the next would exceed `tokens`, one at least."""
    drawn = list(sequences)
    order.shuffle(drawn)
    taken: list[Encoded] = []
    for sequence in drawn:
        if tokens <= 0 or (taken and len(sequence) > tokens):
            break
        taken.append(sequence)
        tokens -= len(sequence)
    return taken
