"""Count what each selector would train of a model, and the bytes that it takes: nothing is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from transformers.utils import logging

from tasks import methods
from tasks.core.sequences import Encoded
from tasks.core.training import FAMILIES, Moment, Probe, Training
from tasks.core.weights.surgery import plain
from tasks.engine.forward import HEAD_ROWS, token_logits, token_losses
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.engine.training.compose import Attached
from tasks.io.weights import checkpoints

NUMBER = 4
"""Bytes of a number in fp32, as trained weights, gradients and Adam's two moments are."""
LOOKS = 4
"""Steps whose choice of weights is looked at, where it changes from step to step: the deeper one trains, the more is kept."""
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
    memory_bytes: int
    """The most memory of a step of one pack in fp32: weights, optimizer, and what the pass keeps for going backward."""
    checkpoint_bytes: int
    """A checkpoint: what trains, AdamW's state, and what is kept beside it."""
    saved_bytes: int
    """The change alone: an adapter, or indices and values of the weights that differ."""


def of_selector(folder: Path, selector: str, sections: Mapping[str, Mapping[str, Any]], pack_tokens: int) -> Fit:
    """Return the size of this selector's training of plain weights, or of LoRA where it chooses by the adapter's tensors."""
    adapter = "lora" if methods.spec("selectors", selector).needs_linear else "none"
    return fit(folder, Training(selector=selector, adapter=adapter, pack_tokens=pack_tokens), sections)


def fit(folder: Path, training: Training, sections: Mapping[str, Mapping[str, Any]]) -> Fit:
    """Return the size of a training of the model in `folder`, with the methods' `sections` where there are some.

    Raises ValueError where its selector has nothing to choose from.
    """
    names = {getattr(training, family.removesuffix("s")) for family in FAMILIES}
    parts = compose.read(training, {name: sections.get(name, {}) for name in names})
    logging.disable_progress_bar()  # weights are read once for each selector
    model, _ = checkpoints.load(folder)
    row = collate([Pack((arbitrary(TOKENS, model.config.vocab_size),))])
    probe = Probe([row], partial(_of_plain, token_losses), partial(_of_plain, token_logits))
    attached = compose.compose(model.train(), parts, probe, training.seed)
    optimizer = optim.AdamW(list(attached.trainable.values()))
    optimizer.state.update({parameter: {} for parameter in attached.trainable.values()})  # a selector may free some
    linear = compose.linear(attached, parts)
    hooks = compose.hooks(parts)
    notes: dict[str, dict[str, Any]] = {kind: {} for kind, _ in hooks}
    at_once = saved = 0
    for step in range(LOOKS if hooks else 1):  # what trains may change from step to step
        for kind, part in hooks:
            scheduler: Any = None
            look = Moment(
                step, LOOKS, training.seed, attached.model, optimizer, scheduler, probe, probe, notes[kind], linear
            )
            part.method.on_step(look, part.config)
        at_once = max(at_once, sum(p.numel() for p in attached.trainable.values() if p.requires_grad))
        saved = max(saved, _saved_bytes(attached.model, row) * training.pack_tokens // TOKENS)
    trains = sum(p.numel() for p in attached.trainable.values())
    moments = 2 * sum(p.numel() for p in optimizer.state)
    kept = sum(tensor.nbytes for tensor in attached.kept.values())
    return Fit(
        adapter=training.adapter,
        trains=trains,
        at_once=at_once,
        optimizer_bytes=NUMBER * (at_once + moments),
        memory_bytes=_memory(attached, saved, NUMBER * moments, NUMBER * at_once, training.pack_tokens),
        checkpoint_bytes=NUMBER * (trains + moments) + kept,
        saved_bytes=NUMBER * trains * (1 if training.adapter != "none" else 2),
    )


def arbitrary(tokens: int, vocabulary: int) -> Encoded:
    """Return a sequence of so many arbitrary tokens, all of which but the first train."""
    return Encoded("arbitrary", [number % vocabulary for number in range(tokens)], [0.0] + [1.0] * (tokens - 1))


def _memory(attached: Attached, saved: int, moments: int, gradients: int, pack_tokens: int) -> int:
    """Return the bytes of a step at its largest, given those of what is kept for going backward, of moments and of gradients.

    Weights and moments are there throughout. A pass ends with what it keeps for going backward, some rows of logits, and the gradient of
    the head where that trains. All of it is freed layer by layer as the other gradients are made, so the larger of both counts.
    """
    tensors = {*attached.model.parameters(), *attached.model.buffers()}
    resident = sum(tensor.nbytes for tensor in tensors) + moments
    inner: Any = plain(attached.model)
    head = inner.get_output_embeddings().weight
    logits = NUMBER * min(HEAD_ROWS, pack_tokens) * len(head)
    of_head: int = head.nbytes if head.requires_grad else 0
    return resident + max(saved + logits + of_head, gradients)


def _saved_bytes(model: nn.Module, row: Mapping[str, Tensor]) -> int:
    """Return the bytes that a forward pass over a row keeps for going backward, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(**row)["loss"]  # its graph holds the storages, so that none is counted twice or reused
    del loss
    return sum(storages.values())


def _of_plain(function: Callable[..., Tensor], model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return function(plain(model), batch)
