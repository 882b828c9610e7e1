"""A promoted model before the present gate set, in a process of its own: `python -m tasks.exam MODEL BASE RESULTS`.

`ratchet promote` asks for it where the set has changed since the model was measured.
"""

import os
import sys
from pathlib import Path

from tasks import settings
from tasks.io import progress
from tasks.run import StageRun, code, die_with_parent, expected, explain, quiet


def main(model: Path, base: Path, results: Path) -> None:
    """Measure the model as stage `evaluate` would."""
    everything = settings.load()
    os.environ["OMP_NUM_THREADS"] = str(everything.compute.threads)  # read once, by whichever library comes first
    reads = settings.declaration("evaluate").reads
    inputs = {name: Path(reads[name]) for name in ("gate", "gate_documents")} | {"model": model, "base": base}
    run = StageRun("evaluate", model.parent.name, "exam", None)
    code("evaluate").examine(inputs, results, settings.for_stage("evaluate", everything), run)


if __name__ == "__main__":
    quiet()
    die_with_parent()
    try:
        main(*map(Path, sys.argv[1:]))
    except expected() as error:
        progress.say(explain(error))
        sys.exit(1)
