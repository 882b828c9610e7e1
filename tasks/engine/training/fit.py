"""Count the parameters that a training would train, and the memory and disk space that it needs, without making a step."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from transformers.utils import logging

from tasks import methods
from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.core.training import FAMILIES, Moment, Probe, Training
from tasks.core.weights import activations
from tasks.core.weights.surgery import decoder_layers, evaluating, plain
from tasks.engine import device
from tasks.engine.forward import HEAD_ROWS, hidden_states, token_logits, token_losses
from tasks.engine.packing import Pack, collate
from tasks.engine.training import compose
from tasks.engine.training.allocations import allocations, saved_bytes
from tasks.engine.training.compose import Attached, Composition
from tasks.io.weights import checkpoints

NUMBER = 4
"""Bytes of a number in fp32: the precision of trained weights, gradients and Adam's two moments."""
LOOKS = 4
"""Steps that are examined for a selector whose choice of weights changes from step to step, without random draws."""
DRAWS = 32
"""Random draws of layers that are examined: the lower the lowest trained layer, the more is saved for the backward pass."""
LENGTHS = (64, 128)
"""Tokens of the two rows that are counted. Bytes are a constant plus a part proportional to the tokens, so two lengths determine both."""
TEMPORARIES = 2
"""Temporary tensors, each as large as the updated parameter, that AdamW makes."""
BACKWARD = 0.5
"""Memory of a layer's backward pass beyond its saved tensors, as a fraction of the memory of its forward pass; measured."""
OF_DIVERGENCE = 5
"""Tensors, each as large as a piece of the logits, that the divergence of two looks holds at a time: two distributions and intermediates."""
FP32 = Compute(precision="fp32")


@dataclass(frozen=True)
class Fit:
    """The size of a training."""

    adapter: str
    """`none`, or the adapter that a selector needs."""
    trains: int
    """Parameters that train at some step."""
    at_once: int
    """The most parameters that train in one step."""
    optimizer_bytes: int
    """Gradients of a step and the state of AdamW; nothing for an optimizer without gradients."""
    memory_bytes: int
    """The peak memory of a step: weights, optimizer, and tensors saved for the backward pass."""
    step_bytes: int
    """The part of it that a step allocates and frees."""
    checkpoint_bytes: int
    """A checkpoint: trained parameters, AdamW's state, and further tensors that it keeps."""
    saved_bytes: int
    """The stored change alone: an adapter, or indices and values of the weights that differ."""


@dataclass(frozen=True)
class Growth:
    """Bytes as a linear function of the tokens of a row."""

    fixed: float
    a_token: float

    def at(self, tokens: int) -> int:
        return round(self.fixed + self.a_token * tokens)


NOTHING = Growth(0, 0)


def of_selector(folder: Path, selector: str, sections: Mapping[str, Mapping[str, Any]], pack_tokens: int) -> Fit:
    """Return the size of a training with this selector: of plain weights, or of LoRA if the selector chooses among an adapter's tensors."""
    adapter = "lora" if methods.spec("selectors", selector).needs_linear else "none"
    return fit(folder, Training(selector=selector, adapter=adapter, pack_tokens=pack_tokens), sections)


def fit(folder: Path, training: Training, sections: Mapping[str, Mapping[str, Any]], compute: Compute = FP32) -> Fit:
    """Return the size of a training of the model in `folder`; `sections` holds the settings of methods by name.

    Raises ValueError if its parts contradict each other, or if its selector has nothing to choose from.
    """
    names = {getattr(training, family.removesuffix("s")) for family in FAMILIES}
    parts = compose.read(training, {name: sections.get(name, {}) for name in names})
    logging.disable_progress_bar()  # weights are read once for each training
    model, _ = checkpoints.load(folder, quantization=parts.base.method.quantization(parts.base.config))
    bank = folder / checkpoints.BANK
    domains = bank if parts.adapter.spec.of_domains and checkpoints.is_bank(bank) else None
    return of_model(model, parts, training, compute, domains)


def of_model(
    model: Any, parts: Composition, training: Training, compute: Compute = FP32, domains: Path | None = None
) -> Fit:
    """Return the size of a training of `model`, which this call changes; `domains` is the bank that its adapter mixes. Raises as `fit`."""
    vocabulary = model.config.get_text_config().vocab_size
    probe = Probe(
        [collate([Pack((arbitrary(LENGTHS[0], vocabulary),))])],
        partial(_of_plain, token_losses),
        partial(_of_plain, token_logits),
    )
    if shrunk := parts.sparsifier.method.shrunk:  # the counted rows are shorter than a pack
        config = shrunk(parts.sparsifier.config, LENGTHS[0] / training.pack_tokens)
        parts = replace(parts, sparsifier=replace(parts.sparsifier, config=config))
    attached = compose.compose(model.train(), parts, probe, training.seed, domains=domains)
    rows = [_row(parts, tokens, vocabulary) for tokens in LENGTHS]
    if parts.optimizer.spec.gradient_free:
        return _without_gradient(attached, parts, training, rows, compute)
    return _by_gradient(attached, parts, training, rows, probe, compute)


def arbitrary(tokens: int, vocabulary: int) -> Encoded:
    """Return a sequence of that many arbitrary tokens; all but the first are trained."""
    return Encoded("arbitrary", [number % vocabulary for number in range(tokens)], [0.0] + [1.0] * (tokens - 1))


def _row(parts: Composition, tokens: int, vocabulary: int) -> dict[str, Tensor]:
    """Return a row of that many tokens as the objective reads it: with an equally long auxiliary sequence if it reads any."""
    sequence, method = arbitrary(tokens, vocabulary), parts.objective.method
    if method.reads_auxiliary and method.reads_auxiliary(parts.objective.config):
        sequence = Encoded(sequence.id, sequence.ids, sequence.weights, auxiliary=(sequence,))
    return collate([Pack((sequence,))], columns=parts.objective.spec.columns)


def _by_gradient(
    attached: Attached,
    parts: Composition,
    training: Training,
    rows: list[dict[str, Tensor]],
    probe: Probe,
    compute: Compute,
) -> Fit:
    """Return the size of a training with AdamW."""
    optimizer = optim.AdamW(list(attached.trainable.values()))
    linear = compose.linear(attached, parts)
    takes_turns = parts.adapter.spec.takes_turns
    hooks = [
        (kind, part) for kind, part in compose.hooks(parts) if kind == "selector" or (kind == "adapter" and takes_turns)
    ]
    notes: dict[str, dict[str, Any]] = {kind: {} for kind, _ in hooks}
    at_once = most_gradients = moments = 0
    kept, inside, deepest = NOTHING, NOTHING, None
    training_now: list[nn.Parameter] = []
    looked_at = _steps_looked_at(parts, training)
    steps = max(LOOKS, looked_at.stop)
    for step in looked_at:
        optimizer.state.update({parameter: {} for parameter in attached.trainable.values()})  # a selector may drop some
        for kind, part in hooks:
            scheduler: Any = None
            look = Moment(
                step, steps, training.seed, attached.model, optimizer, scheduler, probe, probe, notes[kind], linear
            )
            part.method.on_step(look, part.config)
        before, training_now = training_now, [p for p in attached.trainable.values() if p.requires_grad]
        if takes_turns and [*map(id, training_now)] == [*map(id, before)]:
            continue
        at_once = max(at_once, sum(p.numel() for p in training_now))
        most_gradients = max(most_gradients, sum(p.nbytes for p in training_now))
        moments = max(moments, 2 * sum(p.numel() for p in optimizer.state))
        depth = _lowest(attached.model)
        if parts.selector.method.draws_every and deepest is not None and depth >= deepest:
            continue
        deepest = depth
        look_kept, look_inside = _kept(attached.model, rows, compute, checkpointing=training.activation_checkpointing)
        if look_kept.at(training.pack_tokens) >= kept.at(training.pack_tokens):
            kept, inside = look_kept, look_inside
    passing = _passing(plain(attached.model), rows, compute).at(training.pack_tokens)
    in_layer = inside.at(training.pack_tokens) + round(BACKWARD * passing)
    if parts.sparsifier.name != "none":  # a layer allocates even what it does not save
        in_layer = max(in_layer, passing)
    in_head = _logits(_head(attached.model), training) * (OF_DIVERGENCE if parts.objective.spec.looks > 1 else 1)
    trains = sum(p.numel() for p in attached.trainable.values())
    resident = _resident(attached.model) + NUMBER * moments
    largest = max(p.nbytes for p in attached.trainable.values())
    ahead = most_gradients if training.accumulation > 1 else 0  # gradients of earlier packs of the same step
    head = _head(attached.model)
    of_head = head.nbytes if head.requires_grad else 0
    phases = (
        kept.at(training.pack_tokens) + max(in_head, in_layer) + of_head + ahead,
        most_gradients + in_layer,
        passing,  # through layers below all that trains
        most_gradients + TEMPORARIES * largest,
    )
    return Fit(
        adapter=training.adapter,
        trains=trains,
        at_once=at_once,
        optimizer_bytes=NUMBER * (at_once + moments),
        memory_bytes=resident + max(phases),
        step_bytes=max(phases),
        checkpoint_bytes=NUMBER * (trains + moments) + sum(tensor.nbytes for tensor in attached.kept.values()),
        saved_bytes=_change(training, trains),
    )


def _without_gradient(
    attached: Attached, parts: Composition, training: Training, rows: list[dict[str, Tensor]], compute: Compute
) -> Fit:
    """Return the size of a training without gradients: its memory beyond the weights is that of a forward pass or of a part of a direction."""
    inner: Any = plain(attached.model)
    optimizer: Any = parts.optimizer.method.make(compose.groups(attached, parts), parts.optimizer.config, training.seed)
    at_work = _passing(inner, rows, compute).at(training.pack_tokens) + _logits(_head(inner), training)
    trainable = list(attached.trainable.values())
    largest = max(p.nbytes for p in trainable)
    resident = _resident(attached.model)
    if parts.optimizer.spec.streams:
        with tempfile.TemporaryDirectory() as folder:
            optimizer.stream(attached.model, "cpu", Path(folder))
        of_blocks = {id(tensor) for block in optimizer.blocks.blocks for tensor in block.tensors}
        resident -= sum(block.nbytes for block in optimizer.blocks.blocks) - optimizer.blocks.most_bytes
        resident += sum(p.nbytes for p in trainable if id(p) not in of_blocks)  # outside the blocks, for both sides
    trains = sum(p.numel() for p in trainable)
    return Fit(
        adapter=training.adapter,
        trains=trains,
        at_once=trains,
        optimizer_bytes=0,
        memory_bytes=resident + max(at_work, largest),
        step_bytes=max(at_work, largest),
        checkpoint_bytes=NUMBER * trains + sum(tensor.nbytes for tensor in attached.kept.values()),
        saved_bytes=_change(training, trains),
    )


def _steps_looked_at(parts: Composition, training: Training) -> range:
    """Return the steps whose choice of weights is examined: the first of each draw of layers, one round of turns, the first few, or just one."""
    if every := parts.selector.method.draws_every:
        steps = math.ceil(training.max_tokens / (training.pack_tokens * training.accumulation))
        return range(0, min(steps, DRAWS * every(parts.selector.config)), every(parts.selector.config))
    if turns := parts.adapter.method.turns:
        return range(turns(parts.adapter.config))
    return range(LOOKS if parts.selector.spec.acts_between_steps else 1)


def _lowest(model: nn.Module) -> int:
    """Return the index of the lowest decoder layer with a trainable parameter; the number of layers if there is none."""
    layers = decoder_layers(model)
    training = (number for number, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters()))
    return next(training, len(layers))


def _change(training: Training, trains: int) -> int:
    """Return the bytes of the stored change alone."""
    return NUMBER * trains * (1 if training.adapter != "none" else 2)


def _kept(
    model: nn.Module, rows: list[dict[str, Tensor]], compute: Compute, *, checkpointing: bool
) -> tuple[Growth, Growth]:
    """Return the bytes that a pass saves for the backward pass, and with `checkpointing` those that one layer saves when it is recomputed."""

    def counted() -> Growth:
        with device.autocast(compute):
            return _growth([saved_bytes(model, row) for row in rows])

    plainly = counted()
    if not checkpointing:
        return plainly, NOTHING
    with activations.checkpointed(model):
        kept = counted()
    layers = len(decoder_layers(model))
    inside = Growth((plainly.fixed - kept.fixed) / layers, (plainly.a_token - kept.a_token) / layers)
    return kept, inside


def _growth(sizes: list[int]) -> Growth:
    """Return the growth of bytes that were counted at `LENGTHS`."""
    (first, second), (less, more) = LENGTHS, sizes
    a_token = (more - less) / (second - first)
    return Growth(less - a_token * first, a_token)


def _passing(inner: Any, rows: list[dict[str, Tensor]], compute: Compute) -> Growth:
    """Return the peak memory of a pass that saves nothing for the backward pass."""
    with evaluating(inner), torch.no_grad(), device.autocast(compute):
        return _growth([_transient(inner, row) for row in rows])


def _transient(inner: Any, row: Mapping[str, Tensor]) -> int:
    """Return the peak memory of a pass of the decoder in bytes, without the weights."""
    with allocations() as running:
        hidden_states(inner, row)
    return max(running)


def _resident(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})


def _head(model: nn.Module) -> nn.Parameter:
    """Return the weight of the head."""
    inner: Any = plain(model)
    weight: nn.Parameter = inner.get_output_embeddings().weight
    return weight


def _logits(head: nn.Parameter, training: Training) -> int:
    """Return the bytes of the logits that are in memory at a time."""
    return NUMBER * min(HEAD_ROWS, training.pack_tokens) * len(head)


def _of_plain(function: Callable[..., Tensor], model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return function(plain(model), batch)
