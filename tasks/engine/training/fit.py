"""Count what each selector would train of a model, and the bytes that it takes: nothing is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from tasks import methods
from tasks.core.sequences import Encoded
from tasks.core.training import FAMILIES, Moment, Probe, Training
from tasks.core.weights.surgery import plain
from tasks.engine.forward import token_logits, token_losses
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.io.weights import checkpoints

NUMBER = 4
"""Bytes of a number in fp32, as trained weights, gradients and Adam's two moments are."""
TOKENS = 64
"""Length of the sequence of arbitrary tokens that selectors look at: it decides which units train, not how many."""


@dataclass(frozen=True)
class Fit:
    """The size of a selector's training."""

    adapter: str
    """`none`, or the adapter that it needs."""
    trains: int
    """Numbers that train at some step."""
    at_once: int
    """The most of them that train in one step."""
    optimizer_bytes: int
    """Gradients of a step and the state of AdamW."""
    checkpoint_bytes: int
    """A checkpoint: what trains, AdamW's state, and what is kept beside it."""
    saved_bytes: int
    """The change alone: an adapter, or indices and values of the weights that differ."""


def fit(folder: Path, selector: str, sections: Mapping[str, Mapping[str, Any]]) -> Fit:
    """Return the size of this selector's training of the model in `folder`, with the methods' `sections` where there are some.

    A selector that chooses by the adapter's tensors is counted over LoRA. Raises ValueError where it has nothing to choose from.
    """
    adapter = "lora" if methods.spec("selectors", selector).needs_linear else "none"
    training = Training(selector=selector, adapter=adapter)
    names = {getattr(training, family.removesuffix("s")) for family in FAMILIES}
    parts = compose.read(training, {name: sections.get(name, {}) for name in names})
    model, _ = checkpoints.load(folder)
    ids = [number % model.config.vocab_size for number in range(TOKENS)]
    row = collate([Pack((Encoded("fit", ids, [0.0] + [1.0] * (TOKENS - 1)),))])
    probe = Probe([row], partial(_of_plain, token_losses), partial(_of_plain, token_logits))
    attached = compose.compose(model.train(), parts, probe, training.seed)
    optimizer = optim.AdamW(list(attached.trainable.values()))
    linear = compose.linear(attached, parts)
    for _, part in compose.hooks(parts):
        scheduler: Any = None
        moment = Moment(0, 1, training.seed, attached.model, optimizer, scheduler, probe, probe, {}, linear)
        part.method.on_step(moment, part.config)
    trains = sum(p.numel() for p in attached.trainable.values())
    at_once = sum(p.numel() for p in attached.trainable.values() if p.requires_grad)
    kept = sum(tensor.nbytes for tensor in attached.kept.values())
    return Fit(
        adapter=adapter,
        trains=trains,
        at_once=at_once,
        optimizer_bytes=NUMBER * (at_once + 2 * trains),
        checkpoint_bytes=NUMBER * 3 * trains + kept,
        saved_bytes=NUMBER * trains * (1 if adapter != "none" else 2),
    )


def _of_plain(function: Callable[..., Tensor], model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return function(plain(model), batch)
