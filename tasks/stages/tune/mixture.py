"""Mix domains by weight, temperature and token budget: how often an epoch sees the sequences of each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.engine.sequences import Sequences
from tasks.stages.tune.config import Mixture, Part


@dataclass(frozen=True)
class MixedDomain:
    """The part of a domain in an epoch."""

    sequences: int
    tokens: int
    """Tokens of all its sequences."""
    passes: float
    """Times each is seen in an epoch, on average."""
    share: float
    """Its share of an epoch's tokens."""


def mix(sequences: Sequences, mixture: Mixture) -> tuple[Sequences, dict[str, MixedDomain]]:
    """Return the sequences with the times that an epoch sees each, those of no time left out, and the part of each domain.

    Raises ValueError for a domain that no sequence is of, and where nothing would be left.
    """
    domains, codes = sequences.facts.domains, sequences.facts.domains.codes
    counts, totals = np.bincount(codes).tolist(), np.bincount(codes, sequences.tokens).astype(np.int64).tolist()
    tokens = {domain: total for domain, total in zip(domains.names, totals, strict=False) if total}
    passes = passes_by_domain(tokens, mixture)
    seen = {domain: passes[domain] * tokens[domain] for domain in passes}
    if not any(seen.values()):
        raise ValueError("tune.mixture gives every domain weight 0, so nothing trains. Give one of them more.")
    parts = {
        domain: MixedDomain(
            counts[domains.names.index(domain)], tokens[domain], passes[domain], seen[domain] / sum(seen.values())
        )
        for domain in sorted(tokens)
    }
    of_each = np.array([passes.get(domain, 0.0) for domain in domains.names])[codes]
    return sequences.seen(of_each), parts


def passes_by_domain(tokens: Mapping[str, int], mixture: Mixture) -> dict[str, float]:
    """Return how often an epoch sees the sequences of each domain, given its tokens: w (N / sum n^(1/T)) n^(1/T) / n, at most budget / n.

    Raises ValueError for a domain of the mixture that has no tokens.
    """
    if unknown := sorted(mixture.domains.keys() - tokens.keys()):
        raise ValueError(
            f"tune.mixture.domains names {', '.join(unknown)}, and no example is of that domain. "
            f"There are: {', '.join(sorted(tokens))}."
        )
    powers = {domain: count ** (1 / mixture.temperature) for domain, count in tokens.items()}
    scale = sum(tokens.values()) / sum(powers.values())
    passes = {}
    for domain, count in tokens.items():
        part = mixture.domains.get(domain, Part())
        drawn = 1.0 if mixture.temperature == 1 else scale * powers[domain] / count
        budget = float("inf") if part.max_tokens is None else part.max_tokens / count
        passes[domain] = min(part.weight * drawn, budget)
    return passes
