"""Measure a promoted model on the present gate set, in a process of its own: `python -m tasks.gate_eval MODEL BASE RESULTS`.

`ratchet promote` starts it if the set has changed since the model was measured.
"""

import sys
from pathlib import Path

from tasks import configuration
from tasks.io.system import process
from tasks.runner import StageRun, code


def main(model: Path, base: Path, results: Path) -> None:
    """Measure the model as stage `evaluate` does."""
    config = configuration.load()
    process.set_threads(config.compute)
    reads = configuration.declaration("evaluate").reads
    inputs = {name: Path(reads[name]) for name in ("gate", "gate_documents")} | {"model": model, "base": base}
    run = StageRun("evaluate", model.parent.name, "exam", None)
    code("evaluate").examine(inputs, results, configuration.for_stage("evaluate", config), run)


if __name__ == "__main__":
    sys.exit(process.run(lambda: main(*map(Path, sys.argv[1:]))))
