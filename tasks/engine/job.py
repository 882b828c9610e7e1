"""What the stages that train share: load, measure, train, measure again, and write the model with its course."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tasks.core.compute import Compute
from tasks.core.records import Example
from tasks.core.sequences import Encoded, Encoding
from tasks.core.stage import Run
from tasks.core.surgery import plain
from tasks.core.training import Training
from tasks.engine import compose, device, encode, scoring, store, train
from tasks.engine.compose import Part
from tasks.io import checkpoints

Sets = Mapping[str, Sequence[Encoded]]


def load(base: Path, training: Training, sections: Mapping[str, Any], compute: Compute) -> tuple[Any, Any]:
    """The model that is to train, its frozen weights stored as the composition says, and its tokenizer."""
    device.use(compute)
    part = compose.read(training, sections).base
    return checkpoints.load(base, device=compute.device, quantization=part.method.quantization(part.config))


def execute(
    model: Any,
    tokenizer: Any,
    sequences: Sequence[Encoded],
    valid: Sets,
    training: Training,
    sections: Mapping[str, Any],
    compute: Compute,
    run: Run,
    output: Path,
    *,
    probe: Sequence[Encoded] = (),
    whole: bool = False,
    **card: Any,
) -> Mapping[str, list[tuple[int, float]]]:
    """Train `model` and write it to `output` with `training.json` and `ratchet.json`.

    Returns, for each set in `valid`, its loss over trained tokens as (tokens, nats per token): before, at every checkpoint,
    and at the end. `whole` asks for a model that needs no other, whatever was trained. `card` is added to `ratchet.json`.
    """
    parts = compose.read(training, sections)
    compose.check(parts, whole=whole, fsdp=compute.fsdp)
    for column in parts.objective.spec.columns:
        if column.missing and not any(column.name in sequence.columns for sequence in sequences):
            raise ValueError(f"objective {parts.objective.name!r} {column.missing}.")
    measure = _measure(valid, compute)
    before = measure(model)
    everything = [sequence for rows in valid.values() for sequence in rows]
    outcome = train.train(
        model.train(),
        sequences,
        parts,
        training,
        compute,
        run.work,
        _Progress(run),
        probe=probe,
        valid=everything,
        measure=measure,
    )
    course = {name: [(0, before[name]), *outcome.measured[name]] for name in before}
    run.note(trainable=outcome.trainable, trained_tokens=outcome.tokens, precision=device.precision(compute))
    for name, points in course.items():
        losses = {f"{name}_loss_before": points[0][1], f"{name}_loss": points[-1][1]}
        run.log(None, **losses)

    store.save(outcome.attached, parts, tokenizer, output, whole=whole)
    facts = parts.adapter.method.facts
    text = {
        "composition": parts.names,
        "loss": [[step, tokens, round(loss, 6)] for step, tokens, loss in outcome.losses],
        "measured": {name: [[tokens, round(loss, 6)] for tokens, loss in points] for name, points in course.items()},
        "tokens": outcome.tokens,
        "trainable": outcome.trainable,
        "active": outcome.active,
        "parameters": outcome.parameters,
        **({"adapter": facts(outcome.model)} if facts else {}),
    }
    (output / "training.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    checkpoints.write_card(output, method=parts.names, **card)
    return course


def encode_examples(
    rows: Sequence[Example],
    tokenizer: Any,
    pack_tokens: int,
    run: Run,
    label: str,
    objective: Part | None = None,
    table: Sequence[Any] = (),
) -> list[Encoded]:
    """Return the sequences of examples that a pack can hold and that train anything; report how many were left out.

    With an `objective` they are encoded as it says, with the rows of its `table`.
    """
    if objective and objective.method.encode:
        encodings = list(encode.by_objective(rows, objective, table, tokenizer, pack_tokens))
    else:
        encodings = [Encoding([sequence]) for sequence in encode.examples(rows, tokenizer, pack_tokens)]
    kept = [[s for s in encoding.sequences if s is not None and s.num_trained] for encoding in encodings]
    total = sum(len(encoding.sequences) for encoding in encodings)
    if left_out := total - sum(map(len, kept)):
        run.say(
            f"{label}: {left_out} of {total} examples are longer than a pack, hold a control token, or train nothing, "
            "and were left out"
        )
    unused = sum(encoding.unused for encoding, sequences in zip(encodings, kept, strict=True) if sequences)
    if objective and unused:
        run.say(f"{label}: {unused} {objective.spec.table.unused}")
    return [sequence for sequences in kept for sequence in sequences]


def _measure(valid: Sets, compute: Compute) -> Callable[[nn.Module], dict[str, float]]:
    """A function that gives a model's loss on each set that has anything, in nats per token, and leaves the model's mode."""

    def losses(model: nn.Module) -> dict[str, float]:
        inner: Any = plain(model)
        training = inner.training
        inner.eval()
        with device.autocast(compute):
            found = {name: scoring.mean(scoring.losses(inner, rows)) for name, rows in valid.items() if rows}
        inner.train(training)
        return found

    return losses


class _Progress:
    """Reports every step to the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._bar: Iterator[int] | None = None

    def __call__(self, step: int, steps: int, loss: float, rate: float) -> None:
        if self._bar is None:
            self._bar = iter(self._run.track(range(step, steps + 1), total=steps - step + 1, unit="step"))
        next(self._bar, None)
        self._run.log(step, loss=loss, learning_rate=rate)
