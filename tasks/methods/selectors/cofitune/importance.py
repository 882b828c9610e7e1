"""Measure the importance of units for a model's abilities, by the divergence of two passes under dropout."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tasks.core.training import Probe
from tasks.core.weights.surgery import decoder_layers, evaluating

UNITS = {"up_proj": "channels", "down_proj": "outputs", "q_proj": "heads", "k_proj": "heads", "v_proj": "heads"}
"""The units that the rows of a layer belong to, by the last segment of its name."""
WRITERS = {"channels": "mlp.up_proj", "outputs": "mlp.down_proj", "heads": "self_attn.o_proj"}
"""Kind of units → the module of a decoder layer that writes or reads their values."""
FACTOR = 0.1
"""The factor of the KL divergence."""
ROWS = 64
"""Rows of logits whose distributions are in memory at a time."""

Multipliers = Mapping[str, Tensor]
"""Kind of units → a number for each unit of one layer, (U,)."""


def importance(
    model: nn.Module,
    numbers: Sequence[int],
    probe: Probe,
    dropout: float,
    seed: int,
    *,
    kinds: Iterable[str] = tuple(WRITERS),
    absolute: bool = False,
) -> dict[int, dict[str, Tensor]]:
    """Return the importance of the units of these `kinds` in the decoder layers `numbers`, (U,) by kind. Uses no shared random generator.

    Each of the two passes is made twice, with the same dropout: first for the logits, whose divergence gives the gradients at the logits, and
    then with a graph for the backward pass. So only one graph is in memory at a time. It stores only each layer's input and recomputes the
    rest, and nothing for weight gradients, since weights are frozen. Raises ValueError for layers of another form.
    """
    layers: list[Any] = list(decoder_layers(model))
    wanted = sorted(set(kinds))
    for layer in layers:
        _check_form(layer, wanted)
    ones = {number: _ones(layers[number], wanted) for number in numbers}
    flat = [(number, kind) for number in numbers for kind in ones[number]]
    sums = {place: torch.zeros_like(ones[place[0]][place[1]]) for place in flat}
    tokens = 0
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(_frozen(model))
        stack.enter_context(torch.random.fork_rng())
        for number, layer in enumerate(layers):
            stack.enter_context(_perturbed(layer, dropout, ones.get(number, {})))
        for count, batch in enumerate(probe.batches):
            seeds = [f"{seed}/{count}/{half}" for half in range(2)]
            with torch.no_grad():
                logits = [_dropped(model, probe, batch, key) for key in seeds]
            grads = {place: torch.zeros_like(total) for place, total in sums.items()}
            for key, at_logits_NV in zip(seeds, divergence_grads_(*logits), strict=True):
                backward = torch.autograd.grad(
                    _dropped(model, probe, batch, key), [ones[number][kind] for number, kind in flat], at_logits_NV
                )
                for place, grad in zip(flat, backward, strict=True):
                    grads[place] += grad
            for place, grad in grads.items():
                sums[place] += grad.abs() if absolute else grad
            tokens += len(logits[0])
    return {number: {kind: sums[number, kind] / tokens for kind in ones[number]} for number in numbers}


def _dropped(model: nn.Module, probe: Probe, batch: Mapping[str, Tensor], key: str) -> Tensor:
    """Return the logits of a pass with dropout drawn from `key`, (N, V)."""
    torch.manual_seed(random.Random(key).getrandbits(63))
    return probe.logits(model, batch)


def divergence_grads_(first_NV: Tensor, second_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the divergence at both passes' logits, (N, V), which overwrite the logits. Works on a few rows at a time."""
    for start in range(0, len(first_NV), ROWS):
        rows = slice(start, start + ROWS)
        sides = [logits_NV[rows].clone().requires_grad_() for logits_NV in (first_NV, second_NV)]
        divergence = FACTOR * F.kl_div(sides[0].log_softmax(-1), sides[1].softmax(-1), reduction="sum")
        for logits_NV, part in zip((first_NV, second_NV), torch.autograd.grad(divergence, sides), strict=True):
            logits_NV[rows] = part
    return first_NV, second_NV


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Freeze all parameters inside the context."""
    training = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in training:
            parameter.requires_grad_(True)


def normalised(importance_U: Tensor) -> Tensor:
    """Return s of the units of one layer, (U,); 0 if all are equal."""
    deviation = importance_U.std()
    return torch.tanh((importance_U - importance_U.mean()) / deviation).abs() if deviation > 0 else importance_U * 0


def of_rows(s: Multipliers, name: str, rows: int, head_width: int) -> Tensor:
    """Return s of each row of the layer of this name, (O,); a head has `head_width` rows."""
    kind = UNITS[name.rpartition(".")[2]]
    s_U = s[kind]
    if kind != "heads":
        return s_U
    return s_U.view(rows // head_width, -1).amax(dim=1).repeat_interleave(head_width)  # the heads of each group


def _check_form(layer: nn.Module, kinds: Iterable[str]) -> None:
    """Raise ValueError if a decoder layer lacks a module for dropout, or a module whose units are measured."""
    modules = dict(layer.named_modules())
    missing = [name for name in ("mlp", "self_attn", *(WRITERS[kind] for kind in kinds)) if name not in modules]
    if not missing and not hasattr(modules["self_attn"], "attention_dropout"):
        missing = ["self_attn.attention_dropout"]
    if missing:
        raise ValueError(
            f"{type(layer).__name__} has no {missing[0]}, by which cofitune measures the importance of units. Set `mask: none` under methods.cofitune, "
            "or name other `modules`."
        )


def _ones(layer: Any, kinds: Iterable[str]) -> dict[str, Tensor]:
    """Return the multipliers of a layer's units, all 1."""
    writers = {kind: layer.get_submodule(WRITERS[kind]) for kind in kinds}
    sizes = {
        kind: writer.in_features // layer.self_attn.head_dim if kind == "heads" else writer.out_features
        for kind, writer in writers.items()
    }
    return {
        kind: torch.ones(size, device=writers[kind].weight.device, requires_grad=True) for kind, size in sizes.items()
    }


@contextmanager
def _perturbed(layer: Any, dropout: float, multipliers: Multipliers) -> Iterator[None]:
    """Inside the context, apply dropout and the multipliers to a decoder layer, and let it store only its input for the backward pass."""
    attention = layer.self_attn
    kept = attention.attention_dropout
    attention.attention_dropout, attention.training = dropout, True  # the modules inside keep their mode
    hooks = [layer.mlp.register_forward_hook(partial(_drop, dropout))]  # after down_proj, if it has one
    for kind, g_U in multipliers.items():
        writer = layer.get_submodule(WRITERS[kind])
        if kind == "heads":
            hooks.append(writer.register_forward_pre_hook(partial(_multiply_heads, g_U)))
        else:
            hooks.append(writer.register_forward_hook(partial(_multiply, g_U)))
    layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)  # recomputed with the same dropout
    try:
        yield
    finally:
        del layer.forward
        attention.attention_dropout = kept
        for hook in hooks:
            hook.remove()


def _drop(dropout: float, _layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return F.dropout(output, dropout)


def _multiply(g_U: Tensor, _layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * g_U.to(output.dtype)


def _multiply_heads(g_U: Tensor, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Multiply each head's part of o_proj's input, which equals multiplying the head's attention probabilities."""
    (x, *rest) = inputs
    by_head = x.view(*x.shape[:-1], len(g_U), -1) * g_U.to(x.dtype)[:, None]
    return (by_head.flatten(-2), *rest)
