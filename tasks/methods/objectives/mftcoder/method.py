"""Functions of MFTCoder. Equations and the legend of symbols are in the card, `__init__.py`."""

import math
from collections.abc import Mapping, Sequence
from statistics import linear_regression
from typing import Any

import torch
from torch import Tensor

from tasks.core.sequences import IGNORE
from tasks.core.training import Moment
from tasks.core.weights.surgery import evaluating
from tasks.methods.objectives import Objective, Tokens
from tasks.methods.objectives.mftcoder.config import MftcoderConfig

SHARPNESS = 50.0
"""The factor of self-paced weights, as in the official code."""
LEAST = 1e-30
"""The smallest self-paced weight: above 0 in fp32, so that the loss of a step with only one task can be divided by it."""

Losses = list[float | None]
"""The loss of each task; None for one that was not seen."""


def loss(nll_N: Tensor, tokens: Tokens, config: MftcoderConfig) -> Tensor:
    """Return the pack's share of the mean, times the step's trained tokens, by which the engine divides."""
    return (share(tokens, config) * tokens.weights * nll_N).sum()


def share(tokens: Tokens, config: MftcoderConfig) -> Tensor:
    """Return the weight of each token in the step's mean, times the step's tokens, (N,); 1 for all in case1."""
    total = tokens.task_tokens.sum()
    length_N = tokens.segments.bincount()[tokens.segments]
    if config.aggregation == "case1":
        return tokens.weights.new_ones(len(length_N))
    if config.aggregation == "case2":
        return total / (tokens.task_examples.sum() * length_N)

    present_K = tokens.task_tokens > 0
    v_K = present_K * tokens.state.get("task_weights", tokens.weights.new_ones(()))
    v_N = (v_K / v_K.sum())[tokens.tasks]
    if config.aggregation == "case3":
        return total * v_N / tokens.task_tokens[tokens.tasks]
    return total * v_N / (tokens.task_examples[tokens.tasks] * length_N)


def self_paced(losses_WK: Sequence[Losses]) -> list[float]:
    """Return the weights that follow from the last losses."""
    relative_K = relative([slope(column) for column in zip(*losses_WK, strict=True)])
    scores_K = [fast * -r for fast, r in zip(softmax(relative_K), relative_K, strict=True)]
    return [max(weight, LEAST) for weight in softmax([SHARPNESS * score for score in scores_K])]


def coba(slopes_WK: Sequence[Sequence[float]], worst: Sequence[float], tau: float) -> list[float]:
    """Return the weights that follow from the last slopes. `worst` holds the slope of the worst ratio at every update so far."""
    num_tasks = len(slopes_WK[-1])
    relative_score = softmax(relative(slopes_WK[-1]))
    absolute_score = softmax([-relative(column)[-1] for column in zip(*slopes_WK, strict=True)])
    factor = min(1.0, len(worst) * softmax([-tau * r for r in relative(worst)])[-1])
    weights = softmax(
        [num_tasks * (factor * r + (1 - factor) * a) for r, a in zip(relative_score, absolute_score, strict=True)]
    )
    floor = 1 / (10 * num_tasks)
    return [0.9 * w + floor for w in weights] if min(weights) < floor else weights


def slope(values: Sequence[float | None]) -> float:
    """Return the least-squares slope of the values over their places; 0 if fewer than two are known."""
    points = [(place, value) for place, value in enumerate(values) if value is not None]
    return linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else 0.0


def relative(values: Sequence[float]) -> list[float]:
    """Return the values divided by their mean absolute value; zeros if all are 0."""
    size = sum(map(abs, values)) / len(values)
    return [value / size if size else 0.0 for value in values]


def softmax(values: Sequence[float]) -> list[float]:
    """Return the softmax of the values."""
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


def on_step(moment: Moment, config: MftcoderConfig) -> None:
    """Put the weights of the coming step into `moment.state["task_weights"]`."""
    if config.balance != "none":
        _follow(moment, config)
    elif config.task_weights:
        moment.state["task_weights"] = _by_name(config.task_weights, moment.valid.tasks)


def _follow(moment: Moment, config: MftcoderConfig) -> None:
    """Measure the validation losses if an update is due, and set the weights that follow from them."""
    state, batches, num_tasks = moment.state, moment.valid.batches, len(moment.valid.tasks)
    if not state:
        _check(moment, config)
        state["task_weights"] = [1 / num_tasks] * num_tasks
        state["start"] = _losses(moment, batches) if config.balance == "coba" else []
    if moment.step % config.interval:
        return
    first = moment.step // config.interval * config.valid_batches
    looked_at = [batches[number % len(batches)] for number in range(first, first + config.valid_batches)]
    losses = _losses(moment, looked_at)
    if config.balance == "coba":
        _coba_update(state, losses, config, warm=moment.step >= config.warmup)
    else:
        state["losses"] = [*state.get("losses", []), losses][-config.window :]
        if moment.step >= config.window:
            state["task_weights"] = self_paced(state["losses"])


def _coba_update(state: dict[str, Any], losses: Losses, config: MftcoderConfig, *, warm: bool) -> None:
    """Record the ratios of these losses to the first ones, and, once `warm`, the slopes and the weights that follow from them."""

    def noted(name: str, value: Any, length: int) -> list[Any]:
        state[name] = [*state.get(name, []), value][-length:]
        return state[name]

    ratios = [loss / start if loss and start else None for loss, start in zip(losses, state["start"], strict=True)]
    before = state.get("latest", [1.0] * len(ratios))
    state["latest"] = [last if ratio is None else ratio for ratio, last in zip(ratios, before, strict=True)]
    ratios_WK = noted("ratios", ratios, config.history)
    worst_W = noted("worst", max(state["latest"]), config.history)
    if warm:
        slopes_WK = noted("slopes", [slope(column) for column in zip(*ratios_WK, strict=True)], config.compared)
        state["worst_slopes"] = [*state.get("worst_slopes", []), slope(worst_W)]
        state["task_weights"] = coba(slopes_WK, state["worst_slopes"], config.tau)


def _losses(moment: Moment, batches: Sequence[Mapping[str, Tensor]]) -> Losses:
    """Return the mean loss of each task's tokens in these batches under the present model, whose state does not change."""
    num_tasks = len(moment.valid.tasks)
    sums_K = torch.zeros(num_tasks, dtype=torch.float64)
    counts_K = torch.zeros(num_tasks, dtype=torch.long)
    with torch.no_grad(), evaluating(moment.model):
        for batch in batches:
            tasks_N = _trained_tasks(batch)
            sums_K.index_add_(0, tasks_N, moment.valid.losses(moment.model, batch).double().cpu())
            counts_K += tasks_N.bincount(minlength=num_tasks)
    means = (sums_K / counts_K).tolist()
    return [mean if math.isfinite(mean) else None for mean in means]


def _trained_tasks(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the task of each trained token of a batch, (N,)."""
    return batch["tasks"][0][batch["labels"][0] != IGNORE].cpu()


def _by_name(weights: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Return the weights in the order of `names`. Raises ValueError for a task that is not among them."""
    if unknown := sorted(weights.keys() - set(names)):
        raise ValueError(
            f"mftcoder.task_weights names {', '.join(unknown)}, and no example is of that task. "
            f"There are: {', '.join(names)}."
        )
    return [weights.get(name, 1.0) for name in names]


def _check(moment: Moment, config: MftcoderConfig) -> None:
    """Raise ValueError if the weights have no validation losses to follow."""
    seen = {task for batch in moment.valid.batches for task in _trained_tasks(batch).tolist()}
    if unseen := [name for number, name in enumerate(moment.valid.tasks) if number not in seen]:
        raise ValueError(
            f"mftcoder.balance: {config.balance} follows the validation loss of every task, and there is none of "
            f"{', '.join(unseen)}. Raise valid_tokens, hold some examples out, or set `balance: none`."
        )
    name, first = ("warmup", config.warmup) if config.balance == "coba" else ("window", config.window)
    begins = math.ceil(first / config.interval) * config.interval
    if begins >= moment.steps:
        raise ValueError(
            f"With mftcoder.{name}: {first} and interval: {config.interval}, {config.balance} begins at step {begins}, and the training has "
            f"{moment.steps} steps. Lower them, or set `balance: none`."
        )


METHOD = Objective(loss=loss, on_step=on_step)
