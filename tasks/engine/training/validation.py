"""Losses and rewards on held-out sets, before, during and after a training."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.core.training import Training
from tasks.core.weights.surgery import evaluating, plain
from tasks.engine import device
from tasks.engine.inference import scoring
from tasks.engine.training.batches import Batches
from tasks.engine.training.compose import Part
from tasks.methods.objectives import DESIRABLE, REFERENCE, Answers

Sets = Mapping[str, Sequence[Encoded]]
"""Held-out sequences by the name of their set."""
SHARE = 0.05
"""The largest share of a training's time that validation takes if `validate_every` is not set."""
COST = 0.5
"""Cost of a forward pass over a token, relative to training on it: a backward pass costs at least as much as a forward pass."""
CHOSEN, REJECTED, MARGINS, ACCURACIES = (f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies"))
"""TRL's names for the rewards of preferences."""


def losses(model: nn.Module, sets: Sets, compute: Compute) -> dict[str, float]:
    """Return the model's mean loss on each set that is not empty, in nats per trained token.

    Draws no random numbers, and leaves the mode of every module unchanged.
    """
    inner: Any = plain(model)
    with evaluating(inner), device.autocast(compute):
        return {name: scoring.mean(scoring.losses(inner, rows)) for name, rows in sets.items() if rows}


def digest(sets: Sets) -> str:
    """Return a hash of the tokens and weights that a loss is measured on: only losses with equal hashes can be compared."""
    contents = {name: [[row.id, row.ids, row.weights] for row in rows] for name, rows in sets.items()}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


def rewards(model: nn.Module, judged: Sequence[Encoded], objective: Part, compute: Compute) -> dict[str, float]:
    """Return the rewards that the objective gives held-out answers, by TRL's names; empty without such answers.

    `judged` are answers with their worse answers as auxiliary sequences, or with the column `DESIRABLE`. The margin is the mean reward of
    the better answers minus that of the worse ones. The accuracy is the share of worse answers for which the better answer of the same
    example has a higher reward; it is left out if no example has both.
    """
    sides = list(_sides(judged))
    if not sides:
        return {}
    answers = _answers(model, [answer for answer, _ in sides], compute)
    values = objective.method.reward(answers, objective.config).tolist()
    rewarded = [(answer.id, is_better, value) for (answer, is_better), value in zip(sides, values, strict=True)]
    chosen = {example: value for example, is_better, value in rewarded if is_better}
    rejected = [(example, value) for example, is_better, value in rewarded if not is_better]
    figures = {
        CHOSEN: list(chosen.values()),
        REJECTED: [value for _, value in rejected],
        ACCURACIES: [chosen[example] > value for example, value in rejected if example in chosen],
    }
    means = {name: fmean(each) for name, each in figures.items() if each}
    if CHOSEN in means and REJECTED in means:
        means[MARGINS] = means[CHOSEN] - means[REJECTED]
    return means


def _sides(judged: Iterable[Encoded]) -> Iterator[tuple[Encoded, bool]]:
    """Yield each judged answer with True if it is the better one or desirable, else False."""
    for sequence in judged:
        yield sequence, sequence.columns.get(DESIRABLE.name, [DESIRABLE.fill])[0] == 1
        yield from ((worse, False) for worse in sequence.auxiliary)


def _answers(model: nn.Module, sequences: Sequence[Encoded], compute: Compute) -> Answers:
    """Return the log-probabilities of the trained tokens of each sequence, in order."""
    inner: Any = plain(model)
    numbered = [replace(sequence, id=str(number)) for number, sequence in enumerate(sequences)]
    with evaluating(inner), device.autocast(compute):
        scored = sorted(scoring.losses(inner, numbered), key=lambda loss: int(loss.id))
    reference = [sequence.columns.get(REFERENCE.name, [0.0])[0] for sequence in sequences]

    def column(values: Iterable[float]) -> Tensor:
        return torch.tensor([*values], dtype=torch.float64)

    return Answers(-column(loss.nats for loss in scored), column(loss.tokens for loss in scored), -column(reference))


def interval(config: Training, batches: Batches, sets: Sets, judged: Sequence[Encoded] = ()) -> int:
    """Return the number of steps between two validations, in addition to those at checkpoints; 0 for none."""
    measured = [*(sequence for rows in sets.values() for sequence in rows), *(answer for answer, _ in _sides(judged))]
    tokens = sum(map(len, measured))
    if not tokens:
        return 0
    if config.validate_every is not None:
        return config.validate_every
    passes = int(SHARE * batches.tokens_after[-1] / (COST * tokens))
    return math.ceil(batches.steps / passes) if passes else 0
