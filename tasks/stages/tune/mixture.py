"""Decide how often an epoch sees the sequences of each domain, by weight, temperature and token budget, and add general text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.engine.sequences import Joined, Sequences
from tasks.stages.tune.config import Mixture, Part


@dataclass(frozen=True)
class MixedDomain:
    """The part of a domain in an epoch."""

    sequences: int
    tokens: int
    """Tokens of all its sequences."""
    passes: float
    """Average number of times that an epoch sees each sequence."""
    share: float
    """Its share of an epoch's tokens."""


def mix(sequences: Sequences, mixture: Mixture) -> tuple[Sequences, dict[str, MixedDomain]]:
    """Return the sequences with the number of times that an epoch sees each, and the part of each domain.

    Sequences that no epoch sees are left out. Raises ValueError if the mixture names a domain without sequences, and if none is left.
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


def with_replay(examples: Sequences, general: Sequences, share: float) -> tuple[Sequences, MixedDomain]:
    """Return the examples joined with general texts that make up `share` of an epoch's trained tokens, and the part of these texts.

    Each epoch draws different texts. Ibrahim et al. 2024, https://arxiv.org/abs/2403.08763, section 3.2, use such replay in continued
    pretraining; here the texts are mixed with answers. An example trains only its answer, a text all of its tokens, so the share counts
    trained tokens: with long prompts, a share of all tokens would give most of the loss to general text.
    """
    passes = np.ones(len(examples)) if examples.passes is None else examples.passes
    trained, tokens = (float((passes * counts).sum()) for counts in (examples.facts.trained, examples.tokens))
    of_general = trained * share / (1 - share) / int(general.facts.trained.sum(dtype=np.int64))
    replayed = int(general.tokens.sum(dtype=np.int64))
    part = MixedDomain(len(general), replayed, of_general, of_general * replayed / (tokens + of_general * replayed))
    return Joined(examples, general.seen(np.full(len(general), of_general))), part


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
