"""Mix domains by weight, temperature and token budget: how often an epoch sees the sequences of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.core.records import Example
from tasks.core.sequences import Encoded
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


def mix(
    sequences: Sequence[Encoded], rows: Sequence[Example], mixture: Mixture
) -> tuple[list[Encoded], dict[str, MixedDomain]]:
    """Return the sequences with the times that an epoch sees each, those of no time left out, and the part of each domain.

    Raises ValueError for a domain that no sequence is of, and where nothing would be left.
    """
    domains = {row.id: row.domain for row in rows}
    tokens = Counter[str]()
    for sequence in sequences:
        tokens[domains[sequence.id]] += len(sequence)
    passes = passes_by_domain(tokens, mixture)
    seen = {domain: passes[domain] * tokens[domain] for domain in passes}
    if not any(seen.values()):
        raise ValueError("tune.mixture gives every domain weight 0, so nothing trains. Give one of them more.")
    counts = Counter(domains[sequence.id] for sequence in sequences)
    parts = {
        domain: MixedDomain(counts[domain], tokens[domain], passes[domain], seen[domain] / sum(seen.values()))
        for domain in sorted(tokens)
    }
    mixed = [replace(sequence, passes=passes[domains[sequence.id]]) for sequence in sequences]
    return [sequence for sequence in mixed if sequence.passes], parts


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
