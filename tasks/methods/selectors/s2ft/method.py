"""Functions of S²FT. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tasks.core.training import Probe
from tasks.core.weights import deltas
from tasks.core.weights.surgery import ALL_LINEAR, evaluating, linears, plain
from tasks.methods.selectors import Selector
from tasks.methods.selectors.s2ft.config import CUTS, S2ftConfig


def pick(score_LU: Tensor, ratio: float, spread: str) -> list[Tensor]:
    """Return the units of each layer with the largest scores, in ascending order."""
    layers, units = score_LU.shape
    count = round(ratio * units) if spread == "even" else int(units * layers * ratio)  # as the authors' code rounds
    pools = score_LU if spread == "even" else score_LU.reshape(1, -1)
    best = pools.topk(max(count, 1), dim=1).indices
    chosen = torch.zeros_like(pools, dtype=torch.bool).scatter(1, best, value=True)
    return [units.nonzero().flatten() for units in chosen.view_as(score_LU)]


def norms(weights: Sequence[Tensor], form: str, width: int) -> Tensor:
    """Return the norm of every unit's slice of each weight, or of its gradient, (L, U)."""
    across = 0 if form == "columns" else 1
    return torch.stack([w_OI.detach().float().norm(dim=across).view(-1, width).norm(dim=1) for w_OI in weights])


def activations(model: nn.Module, layers: Sequence[nn.Linear], form: str, width: int, probe: Probe) -> Tensor:
    """Return the mean magnitude of each unit's inputs (columns) or outputs (rows) in each layer on the probe, (L, U)."""
    sums: dict[nn.Module, Any] = dict.fromkeys(layers, 0.0)

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = inputs[0] if form == "columns" else output
        sums[layer] += seen.float().abs().flatten(0, -2).sum(dim=0)

    handles = [layer.register_forward_hook(add) for layer in layers]
    with torch.no_grad():
        for batch in probe.batches:
            probe.losses(model, batch)
    for handle in handles:
        handle.remove()
    tokens = sum(batch["input_ids"].numel() for batch in probe.batches)
    return torch.stack([sums[layer].view(-1, width).mean(dim=1) / tokens for layer in layers])


def gradient_norms(model: nn.Module, layers: Sequence[nn.Linear], form: str, width: int, probe: Probe) -> Tensor:
    """Return the norm, at every unit's slice of each weight, of the gradient of the probe's mean loss, (L, U).

    A weight's gradient is freed as soon as its norms are known, so with a probe of one batch only one gradient is in memory at a time.
    """
    weights = [layer.weight for layer in layers]
    sums: dict[Tensor, Tensor] = {}
    norms_LU: dict[Tensor, Tensor] = {}
    batches: Counter[Tensor] = Counter()

    def take(weight: Tensor) -> None:
        batches[weight] += 1
        assert weight.grad is not None
        total = sums.pop(weight) + weight.grad if weight in sums else weight.grad
        weight.grad = None
        if batches[weight] == len(probe.batches):
            norms_LU[weight] = norms([total], form, width)
        else:
            sums[weight] = total

    tokens = 0
    with ExitStack() as hooks:
        for weight in weights:
            hooks.callback(weight.register_post_accumulate_grad_hook(take).remove)  # type: ignore[no-untyped-call]
        for batch in probe.batches:
            losses_N = probe.losses(model, batch)
            tokens += len(losses_N)
            losses_N.sum().backward(inputs=weights)  # type: ignore[no-untyped-call]
    return torch.cat([norms_LU[weight] for weight in weights]) / tokens


def choose(model: nn.Module, config: S2ftConfig, probe: Probe, seed: int) -> None:
    """Freeze `model` and let the chosen slices of its weights train.

    Raises ValueError if those weights do not train, as under an adapter.
    """
    trained = {name: layer for name, layer in linears(model, ALL_LINEAR).items() if layer.weight.requires_grad}
    endings = sorted({name.rpartition(".")[2] for name in trained})
    if missing := [target for target in config.ratios if target not in endings]:
        raise ValueError(
            f"selector 's2ft' moves slices of {', '.join(missing)}, which do not train here (the linear layers that do end in: "
            f"{', '.join(endings) or 'none'}). Where an adapter holds the model's own weights frozen, use `adapter: none`."
        )
    draw = torch.Generator().manual_seed(seed)
    chosen: dict[str, tuple[Literal["columns", "rows"], Tensor]] = {}
    with evaluating(model):
        for target, ratio in config.ratios.items():
            for layers in _alike({n: layer for n, layer in trained.items() if n.endswith(f".{target}")}):
                form, width = CUTS[target].form, _width(model, target, next(iter(layers.values())))
                score_LU = _scores(model, list(layers.values()), form, width, config, probe, draw)
                for name, units in zip(layers, pick(score_LU, ratio, config.spread), strict=True):
                    if len(units):
                        index = (units[:, None] * width + torch.arange(width, device=units.device)).flatten()
                        chosen[name] = form, index

    model.requires_grad_(False)
    for name, (form, index) in chosen.items():
        deltas.put(model, name, form, index)


def _alike(layers: Mapping[str, nn.Linear]) -> list[dict[str, nn.Linear]]:
    """Return the layers grouped by the shape of their weight, since a shared expert has fewer channels than a dense block of the same model."""
    groups: dict[torch.Size, dict[str, nn.Linear]] = {}
    for name, layer in layers.items():
        groups.setdefault(layer.weight.shape, {})[name] = layer
    return list(groups.values())


def _width(model: Any, target: str, layer: nn.Linear) -> int:
    """Return the number of columns or rows of a unit."""
    config: Any = plain(model).config
    form, units = CUTS[target]
    length = layer.in_features if form == "columns" else layer.out_features
    return length // int(getattr(config.get_text_config(), units)) if units else 1


def _scores(
    model: nn.Module,
    layers: Sequence[nn.Linear],
    form: str,
    width: int,
    config: S2ftConfig,
    probe: Probe,
    draw: torch.Generator,
) -> Tensor:
    """Return the scores by which the units of these layers are chosen, (L, U): the larger, the better."""
    weights = [layer.weight for layer in layers]
    match config.score:
        case "random":
            length = weights[0].shape[1 if form == "columns" else 0]
            score_LU = torch.rand(len(layers), length // width, generator=draw)
        case "weight":
            score_LU = norms(weights, form, width)
        case "activation":
            score_LU = activations(model, layers, form, width, probe)
        case "product":
            score_LU = norms(weights, form, width) * activations(model, layers, form, width, probe)
        case "gradient":
            score_LU = gradient_norms(model, layers, form, width, probe)
    return score_LU if config.subset == "large" else -score_LU


METHOD = Selector(choose=choose)
