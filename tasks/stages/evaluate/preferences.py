"""Preference pairs without generation: which answer, chosen or rejected, has the higher mean log-probability per token.

This is the length-normalised ranking accuracy of Chen et al. 2024, https://arxiv.org/abs/2405.19534: a sum of log-probabilities would prefer
the shorter answer. No reference model is subtracted; the effect of a training is the paired difference to the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.core.records import PREFERENCE, Example, Result
from tasks.core.sequences import Encoded
from tasks.core.stage import Run
from tasks.engine import encode
from tasks.stages.evaluate import subsample
from tasks.stages.evaluate.checks.likelihood import Losses, likeliest
from tasks.stages.evaluate.config import EvaluateConfig


@dataclass(frozen=True)
class Pair:
    """A held-out preference pair in tokens. Only the answers are scored."""

    example: Example
    rejected: Encoded
    chosen: Encoded


def preference_pairs(test: Sequence[Example], tokenizer: Any, config: EvaluateConfig, run: Run) -> list[Pair]:
    """Return the pairs to score, the same for every model, and print how many cannot be scored."""
    preferred = [row for row in test if row.rejected is not None] if config.preference_items else []
    pairs = [pair for row in preferred if (pair := _pair(row, tokenizer, config.max_tokens))]
    if len(pairs) < len(preferred):
        run.say(
            f"evaluate {run.item}: {len(preferred) - len(pairs)} of {len(preferred)} held-out preference pairs are not scored: a side is "
            f"longer than evaluate.max_tokens={config.max_tokens}, or spells a control token"
        )
    return subsample.sample(pairs, config.preference_items, config.seed, lambda pair: pair.example.id)


def score(pairs: Sequence[Pair], losses: Losses) -> list[Result]:
    """Return the result of `preference accuracy` of each pair."""
    scored = {loss.id: loss for loss in losses(sides(pairs))}
    results = []
    for pair in pairs:
        means = [-scored[side.id].nats / scored[side.id].tokens for side in (pair.rejected, pair.chosen)]
        # In a tie the first answer counts. The rejected answer comes first, so that a tie does not count as a preference for the chosen one.
        results.append(likeliest(PREFERENCE, pair.example, 1, _texts(pair.example), means))
    return results


def sides(pairs: Sequence[Pair]) -> list[Encoded]:
    """Return the rejected and the chosen side of each pair."""
    return [side for pair in pairs for side in (pair.rejected, pair.chosen)]


def _pair(row: Example, tokenizer: Any, max_tokens: int) -> Pair | None:
    """Return the two sides of a pair; None if one is longer than `max_tokens` or spells a control token."""
    rejected, chosen = (encode.example(row.with_response(text), tokenizer) for text in _texts(row))
    if rejected is None or chosen is None or max(len(rejected), len(chosen)) > max_tokens:
        return None
    return Pair(row, replace(rejected, id=f"{row.id}/rejected"), replace(chosen, id=f"{row.id}/chosen"))


def _texts(row: Example) -> list[str]:
    """Return the rejected answer and the chosen one."""
    assert row.rejected is not None
    return [row.rejected, row.response]
