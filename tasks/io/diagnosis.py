"""diagnosis.json: hashes of the inputs of a table of signals, so that signals of another model or of other examples are never used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.io import provenance
from tasks.io.weights import checkpoints


def hashes(inputs: Mapping[str, Path]) -> dict[str, str]:
    """Return a hash of each input: of the weights in a model's folder, or of the bytes of a file."""
    return {
        name: checkpoints.weights_digest(path) if path.is_dir() else provenance.digest(path)
        for name, path in inputs.items()
    }


def check(path: Path, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Read the diagnosis at `path`, and check that its inputs and signals are the present ones, named by `inputs`.

    Raises ValueError that names the outdated ones, because outdated signals must not be used.
    """
    diagnosis: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    expected = diagnosis["hashes"]
    current = hashes({name: inputs[name] for name in expected})
    if changed := sorted(name for name in expected if expected[name] != current[name]):
        raise ValueError(
            f"{path} is stale: it was made from other {' and '.join(changed)} than "
            f"{' and '.join(str(inputs[name]) for name in changed)} now. `dvc repro` makes it again."
        )
    return diagnosis
