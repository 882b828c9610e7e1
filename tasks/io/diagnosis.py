"""diagnosis.json: what a table of signals was made from, so that nobody acts on signals of another model or of other examples."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.io import checkpoints, provenance


def hashes(inputs: Mapping[str, Path]) -> dict[str, str]:
    """A hash of each input: of a model's folder that of its weights, of a file that of its bytes."""
    return {
        name: checkpoints.weights_digest(path) if path.is_dir() else provenance.digest(path)
        for name, path in inputs.items()
    }


def check(path: Path, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """The diagnosis at `path`, where everything it was made from is what `inputs` names now, the signals included.

    Raises ValueError naming what is not: signals that are stale must not be acted on.
    """
    diagnosis: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    expected = diagnosis["hashes"]
    found = hashes({name: inputs[name] for name in expected})
    if odd := sorted(name for name in expected if expected[name] != found[name]):
        raise ValueError(
            f"{path} is stale: it was made from other {' and '.join(odd)} than "
            f"{' and '.join(str(inputs[name]) for name in odd)} now. `dvc repro` makes it again."
        )
    return diagnosis
