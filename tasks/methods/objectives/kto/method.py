"""Functions of KTO. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tasks.core.records import Example, FaultPair
from tasks.core.sequences import Encoded, Encoder, Encoding
from tasks.methods.objectives import DESIRABLE, Answers, Objective, Tokens
from tasks.methods.objectives._answers import auxiliary, mean_over_step, own
from tasks.methods.objectives._pairs import answer_sequence, rejected_answers
from tasks.methods.objectives.kto.config import KtoConfig


def loss(nll_N: Tensor, tokens: Tokens, config: KtoConfig) -> Tensor:
    """Return the mean over answers, times the step's trained tokens, by which the engine divides."""
    ratio_S = own(nll_N, tokens).log_ratio
    foreign = auxiliary(tokens)
    z = foreign[0].log_ratio.mean().clamp(min=0).detach() if foreign else ratio_S.new_zeros(())
    desirable_S = ratio_S.new_zeros(len(ratio_S)).index_copy(
        0, tokens.segments, tokens.columns[DESIRABLE.name].to(ratio_S)
    )
    sign_S = 2 * desirable_S - 1
    weights_S = torch.where(desirable_S > 0, config.desirable_weight, config.undesirable_weight)
    losses_S = weights_S * (1 - torch.sigmoid(config.beta * sign_S * (ratio_S - z)))
    present_S = tokens.segments.bincount(minlength=len(ratio_S)) > 0
    return mean_over_step(losses_S * present_S, tokens)


def reward(answers: Answers, config: KtoConfig) -> Tensor:
    """Return beta r of each answer, (S,)."""
    return config.beta * answers.log_ratio


def encode(row: Example, faults: Sequence[FaultPair], encoder: Encoder, max_tokens: int, config: KtoConfig) -> Encoding:
    """Return a sequence for each judged answer of an example; none for an example without a judgement."""
    rejected = rejected_answers(row, faults, config)
    judged = [(text, False) for text in rejected]
    if rejected or row.desirable is not None:
        judged.insert(0, (row.response, row.desirable is not False))
    sequences = [(answer_sequence(row, text, encoder, max_tokens), desirable) for text, desirable in judged]
    return Encoding([sequence and _labelled(sequence, desirable=desirable) for sequence, desirable in sequences])


def _labelled(sequence: Encoded, *, desirable: bool) -> Encoded:
    return replace(sequence, columns={**sequence.columns, DESIRABLE.name: [int(desirable)] * len(sequence)})


def link(sequence: Encoded, other: Encoded, max_tokens: int, config: KtoConfig) -> Encoded:
    """Return a sequence whose auxiliary sequence is its prompt followed by the answer of another example."""
    return replace(sequence, auxiliary=(_mismatched(sequence, other, max_tokens),))


def _mismatched(sequence: Encoded, other: Encoded, max_tokens: int) -> Encoded:
    """Return a sequence's prompt followed by another's answer, cut off at the length of a pack."""
    start, start_of_answer = (next(i for i, weight in enumerate(s.weights) if weight > 0) for s in (sequence, other))
    ids = [*sequence.ids[:start], *other.ids[start_of_answer:]]
    weights = [0.0] * start + [1.0] * (len(other) - start_of_answer)
    longest = max(max_tokens, start + 1)
    return replace(sequence, ids=ids[:longest], weights=weights[:longest], columns={}, auxiliary=())


METHOD = Objective(loss=loss, encode=encode, link=link, reads_auxiliary=lambda config: True, reward=reward)
