"""Functions of ADEPT. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tasks.core.training import Moment, Probe
from tasks.core.weights.surgery import decoder_layers, evaluating
from tasks.methods.expanders import Expander
from tasks.methods.expanders._duplicate import depth, duplicate
from tasks.methods.expanders.adept.config import AdeptConfig


def layer_importance(model: nn.Module, probe: Probe) -> list[float]:
    """Return the increase of the probe's loss when each layer is skipped, in nats per token."""
    layers = decoder_layers(model)
    intact: list[Tensor] = []
    without: list[list[Tensor]] = [[] for _ in layers]
    with evaluating(model), torch.no_grad():
        for batch in probe.batches:
            with _watched(layers) as inputs:
                intact.append(probe.losses(model, batch))
            for number, losses in enumerate(without):
                with _started_at(layers, number + 1, inputs[number]):
                    losses.append(probe.losses(model, batch))

    def mean(losses: list[Tensor]) -> float:
        return float(torch.cat(losses).double().mean())

    return [mean(losses) - mean(intact) for losses in without]


@contextmanager
def _watched(layers: nn.ModuleList) -> Iterator[list[Tensor]]:
    """Record the input of each layer inside the context."""
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _started_at(layers: nn.ModuleList, start: int, hidden: Tensor) -> Iterator[None]:
    """Give `hidden` to layer `start` inside the context; lower layers are not computed."""
    for layer in layers[:start]:
        layer.forward = lambda *_, **__: hidden
    try:
        yield
    finally:
        for layer in layers[:start]:
            del layer.forward


def unit_importance(model: nn.Module, units: Mapping[str, nn.Parameter], probe: Probe) -> dict[str, float]:
    """Return I_U of each unit. Gradients are removed and the mode is restored afterwards."""
    sums: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}
    with evaluating(model), torch.enable_grad(), _differentiable(units.values()):
        for batch in probe.batches:
            nll_N = probe.losses(model, batch)
            for kind, of_kind_N in _kinds(batch):
                mean = nll_N[of_kind_N.to(nll_N.device)].mean()
                slopes = torch.autograd.grad(mean, list(units.values()), retain_graph=True, materialize_grads=True)
                before = sums.get(kind, [torch.zeros_like(slope, dtype=torch.float32) for slope in slopes])
                sums[kind] = [total + slope.abs() for total, slope in zip(before, slopes, strict=True)]
                counts[kind] = counts.get(kind, 0) + 1
    scores = {kind: [total / counts[kind] for total in totals] for kind, totals in sums.items()}
    return {
        name: sum(float((unit.detach().abs() * slopes[number]).mean()) for slopes in scores.values()) / len(scores)
        for number, (name, unit) in enumerate(units.items())
    }


@contextmanager
def _differentiable(units: Collection[nn.Parameter]) -> Iterator[None]:
    """Let all units require gradients inside the context, including those that a selector has frozen for now."""
    frozen = [unit for unit in units if not unit.requires_grad]
    for unit in frozen:
        unit.requires_grad_(True)
    try:
        yield
    finally:
        for unit in frozen:
            unit.requires_grad_(False)


def _kinds(batch: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Split a row's trained tokens, (N,), into those of plain texts and those of answers, whose prompts are not trained."""
    trained_T = batch["labels"][0] >= 0
    segments_T = batch["segments"][0]
    lengths_S, answers_S = segments_T.bincount(), segments_T[trained_T].bincount(minlength=len(batch["boundaries"]) - 1)
    plain_N = (answers_S == lengths_S - 1)[segments_T[trained_T]]  # a text's first token is not trained
    return ((kind, chosen_N) for kind, chosen_N in (("texts", plain_N), ("answers", ~plain_N)) if chosen_N.any())


def multipliers(importance: Mapping[str, float], norms: Collection[str] = ()) -> dict[str, float]:
    """Return the multiple of the base learning rate for each unit: 2 for the least important, 0 for the most, 1 if all are equal.

    Units in `norms` are compared with all units, and the others with each other.
    """
    others = [value for name, value in importance.items() if name not in norms]

    def rule(value: float, scope: Collection[float]) -> float:
        low, high = min(scope), max(scope)
        return 2 * (1 - (value - low) / (high - low)) if high > low else 1.0

    return {name: rule(value, importance.values() if name in norms else others) for name, value in importance.items()}


def expand(model: nn.Module, config: AdeptConfig, probe: Probe, seed: int) -> dict[str, list[Any]]:
    """Copy the layers that matter least and let the copies train.

    Returns the places of the `copies` in the grown model, of their `originals` in the base, and each base layer's `importance`.
    """
    depth(model, config.layers)
    importance = layer_importance(model, probe)
    ranked = sorted(range(len(importance)), key=importance.__getitem__)
    originals = sorted(ranked[: config.layers])
    return {"copies": duplicate(model, originals), "originals": originals, "importance": importance}


def on_step(moment: Moment, config: AdeptConfig) -> None:
    """Set each unit's learning rate again at steps T, 2T, …; the schedule continues from there.

    At step 0 every importance would be 0, because the projections are 0 and no gradient passes them. Raises ValueError at step 0 if T is not
    below the number of steps.
    """
    if not moment.step and config.interval >= moment.steps:
        raise ValueError(
            f"adept.interval is {config.interval}, and the training has {moment.steps} steps, so all units would learn alike. Set "
            "methods.adept.interval below that, or to 0 if they are to."
        )
    groups = moment.optimizer.param_groups
    base = moment.state.setdefault("learning_rates", {group["name"]: group["initial_lr"] for group in groups})
    if not config.interval or not moment.step or moment.step % config.interval:
        return
    units = {group["name"]: group["params"][0] for group in groups}  # a group is one tensor
    norms = [name for name in units if _is_norm(moment.model, name)] if config.normalisation == "grad_pro" else []
    rates = multipliers(unit_importance(moment.model, units, moment.probe), norms)
    moment.state["multipliers"] = rates
    scheduler = cast("LambdaLR", moment.scheduler)
    schedule: list[Callable[[int], float]] = scheduler.lr_lambdas
    for number, group in enumerate(groups):
        rate = rates[group["name"]] * base[group["name"]]
        group["initial_lr"] = scheduler.base_lrs[number] = rate
        group["lr"] = rate * schedule[number](scheduler.last_epoch)


def _is_norm(model: nn.Module, parameter: str) -> bool:
    return type(model.get_submodule(parameter.rpartition(".")[0])).__name__.endswith("Norm")


METHOD = Expander(expand=expand, on_step=on_step)
