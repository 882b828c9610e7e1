"""S²FT: only a few whole attention heads and a few whole channels of the feed-forward blocks move.

Yang et al. 2024, https://arxiv.org/abs/2412.06289. Of each matrix one dense slice trains, and the rest is frozen:

    down_proj, o_proj   y = W x + s2 x[idx]             s2 is (O, N): columns
    up_proj, v_proj     y = W x, then y[idx] += s2 x    s2 is (N, I): rows

s2 starts as zero and is added to W exactly. The authors permute the weights so that idx is a range. Here the weights stay where
they are and idx is kept: the same numbers, and neither biases nor grouped heads need care. A head of o_proj is a query head, one
of v_proj a key-value head. Weight decay, where it is set, pulls towards the model's own weights.
Shapes: I, O = features in and out; L = layers; U = units (heads or channels) of a layer; N = columns or rows that train.

Our design, not the paper's: a ratio above 0 lets at least one unit train, and what the scores are, which the paper says in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tasks.core.params import Params
from tasks.core.surgery import ALL_LINEAR, linears, plain
from tasks.core.training import Moment, Probe
from tasks.methods.selectors import Selector

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Cut(NamedTuple):
    """How a weight is cut into units."""

    form: Literal["columns", "rows"]
    units: str = ""
    """The setting of the model that says into how many; without one every column or row is a unit."""


CUTS = {
    "v_proj": Cut("rows", "num_key_value_heads"),
    "o_proj": Cut("columns", "num_attention_heads"),
    "up_proj": Cut("rows"),
    "down_proj": Cut("columns"),
}


class S2ftParams(Params):
    """The `methods.s2ft` section. The ratios are the authors' for Llama-2-7B; about 1 % of a small model trains."""

    v: float = Field(0.0, ge=0, le=1)
    """Share of the key-value heads whose rows of v_proj train."""
    o: float = Field(0.052, ge=0, le=1)
    """Share of the query heads whose columns of o_proj train."""
    u: float = Field(0.0, ge=0, le=1)
    """Share of the channels whose rows of up_proj train."""
    d: float = Field(0.02, ge=0, le=1)
    """Share of the channels whose columns of down_proj train."""
    spread: Literal["even", "flat"] = "even"
    """`even`: as many units in every layer, the authors' advice for other models than theirs. `flat`: chosen from the units of all
    layers together, as in their runs."""
    score: Literal["random", "weight", "activation", "product", "gradient"] = "random"
    """What units are chosen by. `weight`: the norm of a unit's slice. `activation`: the mean magnitude of what its columns read,
    or its rows write. `product`: both multiplied. `gradient`: the norm of the loss's gradient at the slice."""
    subset: Literal["large", "small"] = "large"
    """Whether the units of the largest scores train, or of the smallest."""

    @model_validator(mode="after")
    def _subset_has_an_effect(self) -> Self:
        if self.score == "random" and self.subset == "small":
            raise ValueError("subset 'small' changes nothing about score 'random'. Set another score, or leave it out.")
        return self

    @property
    def ratios(self) -> dict[str, float]:
        """The share of units that train, by the last name segment of their layers."""
        shares = zip(CUTS, (self.v, self.o, self.u, self.d), strict=True)
        return {target: ratio for target, ratio in shares if ratio}


def pick(score_LU: Tensor, ratio: float, spread: str) -> list[Tensor]:
    """The units of each layer with the largest scores, in ascending order."""
    import torch

    layers, units = score_LU.shape
    count = round(ratio * units) if spread == "even" else int(ratio * units * layers)
    pools = score_LU if spread == "even" else score_LU.reshape(1, -1)
    best = pools.topk(max(count, 1), dim=1).indices
    chosen = torch.zeros_like(pools, dtype=torch.bool).scatter(1, best, value=True)
    return [units.nonzero().flatten() for units in chosen.view_as(score_LU)]


def norms(weights: Sequence[Tensor], form: str, width: int) -> Tensor:
    """The norm of every unit's slice of each weight, or of its gradient, (L, U)."""
    import torch

    across = 0 if form == "columns" else 1
    return torch.stack([w_OI.detach().float().norm(dim=across).view(-1, width).norm(dim=1) for w_OI in weights])


def activations(model: nn.Module, layers: Sequence[nn.Linear], form: str, width: int, probe: Probe) -> Tensor:
    """The mean magnitude of what every unit of each layer reads (columns) or writes (rows) on the probe, (L, U)."""
    import torch

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


def gradients(model: nn.Module, layers: Sequence[nn.Linear], probe: Probe) -> list[Tensor]:
    """The gradient of the probe's mean loss at each layer's weight."""
    import torch

    weights = [layer.weight for layer in layers]
    sums, tokens = [torch.zeros_like(weight) for weight in weights], 0
    for batch in probe.batches:
        losses_N = probe.losses(model, batch)
        tokens += len(losses_N)
        for total, grad in zip(sums, torch.autograd.grad(losses_N.sum(), weights), strict=True):
            total += grad
    return [total / tokens for total in sums]


def choose(model: nn.Module, params: S2ftParams, probe: Probe, seed: int) -> None:
    """Freeze `model` and let the chosen slices of its weights move.

    Raises ValueError where those weights do not train, as under an adapter.
    """
    import torch

    from tasks.core import deltas

    trained = {name: layer for name, layer in linears(model, ALL_LINEAR).items() if layer.weight.requires_grad}
    endings = sorted({name.rpartition(".")[2] for name in trained})
    if missing := [target for target in params.ratios if target not in endings]:
        raise ValueError(
            f"selector 's2ft' moves slices of {', '.join(missing)}, which do not train here (the linear layers that do end in: "
            f"{', '.join(endings) or 'none'}). Where an adapter holds the model's own weights frozen, use `adapter: none`."
        )
    mode = model.training
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    chosen: dict[str, tuple[Literal["columns", "rows"], Tensor]] = {}
    for target, ratio in params.ratios.items():
        layers = {name: layer for name, layer in trained.items() if name.endswith(f".{target}")}
        form, width = CUTS[target].form, _width(model, target, next(iter(layers.values())))
        score_LU = _scores(model, list(layers.values()), form, width, params, probe, draw)
        for name, units in zip(layers, pick(score_LU, ratio, params.spread), strict=True):
            if len(units):
                chosen[name] = form, (units[:, None] * width + torch.arange(width, device=units.device)).flatten()
    model.train(mode)

    model.requires_grad_(False)
    for name, (form, index) in chosen.items():
        deltas.put(model, name, form, index)


def _width(model: Any, target: str, layer: nn.Linear) -> int:
    """Columns or rows of a unit."""
    form, units = CUTS[target]
    length = layer.in_features if form == "columns" else layer.out_features
    return length // int(getattr(plain(model).config, units)) if units else 1


def _scores(
    model: nn.Module,
    layers: Sequence[nn.Linear],
    form: str,
    width: int,
    params: S2ftParams,
    probe: Probe,
    draw: torch.Generator,
) -> Tensor:
    """By what the units of these layers are chosen: the larger, the better, (L, U)."""
    import torch

    weights = [layer.weight for layer in layers]
    match params.score:
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
            score_LU = norms(gradients(model, layers, probe), form, width)
    return score_LU if params.subset == "large" else -score_LU


def on_step(moment: Moment, params: S2ftParams) -> None:
    """Keep the choice in checkpoints, and raise ValueError where it came out otherwise than in the one that is continued."""
    from tasks.core import deltas

    found = {name: layer.index.tolist() for name, layer in deltas.deltas(moment.model).items()}
    kept = moment.state.setdefault("index", found)
    if differing := [name for name in found if kept.get(name) != found[name]]:
        raise ValueError(
            f"selector 's2ft' chooses other slices than its checkpoint holds, of {differing[0]} for one: score "
            f"{params.score!r} comes out otherwise on this machine. Go on where it began, or remove the checkpoints."
        )


def merge(model: nn.Module) -> None:
    """Add every slice to its weight and put the plain layers back."""
    from tasks.core import deltas

    deltas.merge(model)


METHOD = Selector(params=S2ftParams, choose=choose, on_step=on_step, merge=merge)
