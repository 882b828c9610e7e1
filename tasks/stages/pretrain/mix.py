"""Mix the documents of both corpora for training, and set a probe aside."""

import random
from collections.abc import Sequence

import numpy as np

from tasks.core.sequences import Encoded
from tasks.engine import encode
from tasks.engine.packing import shuffled
from tasks.engine.sequences import Joined, Sequences, listed


def set_aside(sequences: Sequence[Encoded], tokens: int) -> tuple[list[Encoded], Sequences]:
    """Return a probe, the first sequences of about `tokens` tokens, and the sequences of the other documents, for training.

    In `sequences`, the pieces of a document follow one another.
    """
    sequences = listed(sequences)
    probe = encode.take(sequences, tokens)
    rest = len(probe)
    while probe and rest < len(sequences) and sequences[rest].id == probe[-1].id:
        rest += 1
    return probe, sequences[rest:]


def with_replay(
    domain: Sequence[Encoded], general: Sequence[Encoded], share: float, tokens: int, seed: int
) -> Sequences:
    """Return sequences of both corpora for one epoch of at most about `tokens` tokens, of which `share` is general.

    If the domain has fewer tokens, the epoch is shorter and the share stays the same. Replay of this kind: Ibrahim et al. 2024,
    https://arxiv.org/abs/2403.08763, section 3.2. Raises ValueError if the general corpus is too small.
    """
    domain, general = listed(domain), listed(general)
    total = min(tokens, int(domain.tokens.sum(dtype=np.int64)) / (1 - share))
    wanted, available = round(share * total), int(general.tokens.sum(dtype=np.int64))
    if available < wanted:
        raise ValueError(
            f"pretrain.replay={share:g} of {total:,.0f} tokens is {wanted:,} tokens of general text, and beside the probe there are "
            f"{available:,}. Name more sources in ingest.corpora.general, or lower pretrain.replay, max_tokens or probe.tokens."
        )
    order = random.Random(f"{seed}/replay")
    chosen = _some(domain, round((1 - share) * total), order)
    replayed = _some(general, wanted, order)
    if sum(int(part.tokens.sum(dtype=np.int64)) for part in (chosen, replayed)) > tokens:
        replayed = replayed[:-1]  # the one sequence of a tiny share may be longer than the share
    return Joined(chosen, replayed)


def _some(sequences: Sequences, tokens: int, order: random.Random) -> Sequences:
    """Draw sequences without replacement until the next would exceed `tokens`; at least one."""
    drawn = shuffled(len(sequences), order)
    fitting = int(np.searchsorted(np.cumsum(sequences.tokens[drawn], dtype=np.int64), tokens, side="right"))
    return sequences.choose(drawn[: max(fitting, 1) if tokens > 0 else 0])
