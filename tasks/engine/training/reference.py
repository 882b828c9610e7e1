"""Measure and store the log-likelihoods of sequences under the model that a training starts from, so that no second model is in memory."""

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.compute import Compute
from tasks.core.sequences import Encoded
from tasks.core.weights.surgery import evaluating, plain
from tasks.engine import device
from tasks.engine.inference import scoring
from tasks.engine.inference.batches import Track
from tasks.engine.sequences import Changed, Facts, Places, Sequences, listed
from tasks.io.system import files
from tasks.methods.objectives import REFERENCE


def with_reference(
    model: Any,
    sequences: Sequence[Encoded],
    identity: Mapping[str, Any],
    compute: Compute,
    cache: Path,
    track: Track = iter,
) -> Sequences:
    """Return the sequences and their auxiliary sequences with the column `REFERENCE`, measured with the model in its present state.

    `identity` identifies the model. The figures are stored below `cache` under a hash of it and of all sequences. Another set of sequences is
    measured again, since the last digits depend on the rows that sequences share.
    """
    sequences = listed(sequences)
    parts = _Parts(sequences)
    key = json.dumps([identity, device.precision(compute), compute.device, parts.digest], sort_keys=True)
    kept = cache / "reference" / f"{hashlib.sha256(key.encode()).hexdigest()}.f64"
    nats = _read(kept, len(parts))
    if nats is None:
        nats = _measured(model, parts, compute, track)
        files.write_atomically(kept, nats.tobytes(), concurrent=True)
    return Changed(sequences, partial(_noted, nats, parts.starts))


class _Parts(Sequences):
    """Sequences, each followed by its auxiliary sequences. Construction reads all of them once, for their lengths and their digest."""

    def __init__(self, sequences: Sequences) -> None:
        self._sequences = sequences
        contents, lengths, starts = hashlib.sha256(), array("q"), array("q", [0])
        for sequence in sequences:
            for part in (sequence, *sequence.auxiliary):
                contents.update(json.dumps([part.ids, [weight > 0 for weight in part.weights]]).encode())
                lengths.append(len(part))
            starts.append(len(lengths))
        self.digest = contents.hexdigest()
        self.starts: Places = np.frombuffer(starts, np.int64)
        """The place of each sequence, and at the end the total number of parts."""
        self._lengths = np.frombuffer(lengths, np.int64) if lengths else np.zeros(0, np.int64)

    @property
    def tokens(self) -> NDArray[Any]:
        return self._lengths

    @property
    def longest(self) -> NDArray[Any]:
        return self._lengths

    @cached_property
    def facts(self) -> Facts:
        return listed(list(self)).facts

    def read(self, place: int) -> Encoded:
        owner = int(np.searchsorted(self.starts, place, side="right")) - 1
        sequence = self._sequences[owner]
        part = (sequence, *sequence.auxiliary)[place - int(self.starts[owner])]
        return replace(part, id=str(place))


def _noted(nats: NDArray[np.float64], starts: Places, place: int, sequence: Encoded) -> Encoded:
    """Return a sequence and its auxiliary sequences with their log-likelihoods in a column."""
    figures = iter(nats[starts[place] : starts[place + 1]].tolist())

    def noted(part: Encoded) -> Encoded:
        return replace(part, columns={**part.columns, REFERENCE.name: [next(figures)] * len(part)})

    return replace(noted(sequence), auxiliary=tuple(noted(part) for part in sequence.auxiliary))


def _read(path: Path, count: int) -> NDArray[np.float64] | None:
    """Return the stored figures; None if there are none."""
    if not path.is_file():
        return None
    nats = np.fromfile(path, np.float64)
    return nats if len(nats) == count else None


def _measured(model: Any, parts: Sequences, compute: Compute, track: Track) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each sequence's trained tokens in nats, in their order."""
    inner, nats = plain(model), np.zeros(len(parts))
    with evaluating(inner), device.autocast(compute):
        for loss in scoring.losses(inner, parts, track):
            nats[int(loss.id)] = loss.nats
    return nats
