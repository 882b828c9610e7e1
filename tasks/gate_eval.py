"""Measure a promoted model on the current gate set, in a process of its own: `python -m tasks.gate_eval MODEL BASE RESULTS CONDITIONS`.

`ratchet promote` starts it if the gate set or the settings of the measurement have changed since the model was measured. CONDITIONS is the
digest of the settings with which the candidate was measured.
"""

import sys
from pathlib import Path

from tasks import configuration
from tasks.io.system import process
from tasks.runner import StageRun, code


def main(model: Path, base: Path, results: Path, conditions: str) -> None:
    """Measure the model in the same way as stage `evaluate`."""
    config = configuration.load()
    process.set_threads(config.compute)
    reads = configuration.declaration("evaluate").reads
    inputs = {name: Path(reads[name]) for name in ("gate", "gate_documents")} | {"model": model, "base": base}
    run = StageRun("evaluate", model.parent.name, "exam", None)
    code("evaluate").examine(inputs, results, configuration.for_stage("evaluate", config), run, conditions)


if __name__ == "__main__":
    first, second, third, digest = sys.argv[1:]
    sys.exit(process.run(lambda: main(Path(first), Path(second), Path(third), digest)))
