"""Mix the documents of both corpora for training, and set a probe aside."""

import random
from collections.abc import Sequence

from tasks.core.sequences import Encoded
from tasks.engine import encode


def set_aside(sequences: Sequence[Encoded], tokens: int) -> tuple[list[Encoded], list[Encoded]]:
    """Return a probe, the first sequences of about `tokens` tokens, and the sequences of the other documents, for training."""
    probe = encode.take(sequences, tokens)
    probe_ids = {sequence.id for sequence in probe}
    return probe, [sequence for sequence in sequences if sequence.id not in probe_ids]


def with_replay(
    domain: Sequence[Encoded], general: Sequence[Encoded], share: float, tokens: int, seed: int
) -> list[Encoded]:
    """Return sequences of both corpora for one epoch of at most about `tokens` tokens, of which `share` is general.

    If the domain has fewer tokens, the epoch is shorter and the share stays the same. Replay of this kind: Ibrahim et al. 2024,
    https://arxiv.org/abs/2403.08763, section 3.2. Raises ValueError if the general corpus is too small.
    """
    total = min(tokens, sum(map(len, domain)) / (1 - share))
    wanted, available = round(share * total), sum(map(len, general))
    if available < wanted:
        raise ValueError(
            f"pretrain.replay={share:g} of {total:,.0f} tokens is {wanted:,} tokens of general text, and beside the probe there are "
            f"{available:,}. Name more sources in ingest.corpora.general, or lower pretrain.replay, max_tokens or probe_tokens."
        )
    order = random.Random(f"{seed}/replay")
    chosen = _some(domain, round((1 - share) * total), order)
    replayed = _some(general, wanted, order)
    if sum(map(len, [*chosen, *replayed])) > tokens:  # the first of a tiny share alone may be longer than the share
        replayed = replayed[:-1]
    return [*chosen, *replayed]


def _some(sequences: Sequence[Encoded], tokens: int, order: random.Random) -> list[Encoded]:
    """Draw sequences without replacement until the next would exceed `tokens`; at least one."""
    drawn = list(sequences)
    order.shuffle(drawn)
    taken: list[Encoded] = []
    for sequence in drawn:
        if tokens <= 0 or (taken and len(sequence) > tokens):
            break
        taken.append(sequence)
        tokens -= len(sequence)
    return taken
