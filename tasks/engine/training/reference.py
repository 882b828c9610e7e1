"""Log-likelihoods of sequences under the model that a training starts from, taken once and kept, so that no second model is in memory."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.core.weights.surgery import evaluating, plain
from tasks.engine import device
from tasks.engine.inference import scoring
from tasks.io.system import files
from tasks.methods.objectives import REFERENCE


def with_reference(
    model: Any,
    sequences: Sequence[Encoded],
    identity: Mapping[str, Any],
    compute: Compute,
    cache: Path,
    track: scoring.Track = iter,
) -> list[Encoded]:
    """Return the sequences and their auxiliary sequences with the column `REFERENCE`, by the model as it is.

    `identity` names the model. The figures are kept below `cache` under the hash of it and of all sequences: another set is measured
    anew, since the last digits depend on the rows that sequences share.
    """
    flat = [part for sequence in sequences for part in (sequence, *sequence.auxiliary)]
    content = [[part.ids, [weight > 0 for weight in part.weights]] for part in flat]
    key = json.dumps([identity, device.precision(compute), compute.device, content], sort_keys=True)
    kept = cache / "reference" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    nats = _read(kept, len(flat))
    if nats is None:
        nats = _measured(model, flat, compute, track)
        files.write_atomically(kept, json.dumps(nats), concurrent=True)
    figures = iter(nats)

    def noted(part: Encoded) -> Encoded:
        return replace(part, columns={**part.columns, REFERENCE.name: [next(figures)] * len(part)})

    return [
        replace(noted(sequence), auxiliary=tuple(noted(part) for part in sequence.auxiliary)) for sequence in sequences
    ]


def _read(path: Path, count: int) -> list[float] | None:
    """Return the kept figures; None if there are none."""
    if not path.is_file():
        return None
    nats: list[float] = json.loads(path.read_text(encoding="utf-8"))
    return nats if len(nats) == count else None


def _measured(model: Any, parts: Sequence[Encoded], compute: Compute, track: scoring.Track) -> list[float]:
    """Return the negative log-likelihood of each sequence's trained tokens in nats, in their order."""
    inner = plain(model)
    numbered = [replace(part, id=str(number)) for number, part in enumerate(parts)]
    with evaluating(inner), device.autocast(compute):
        losses = {loss.id: loss.nats for loss in scoring.losses(inner, numbered, track)}
    return [losses[part.id] for part in numbered]
