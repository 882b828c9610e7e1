"""Count the memory that a stage's training takes: `python -m tasks.memory_count STAGE FOLDER` prints one JSON object.

A process of its own, as flows import no torch. FOLDER is the model that the stage starts from. `tensors` are the bytes of tensors in a
step at its largest (`tasks.engine.training.fit`), `process` those of a process that has imported what the stage imports, and `holes`
those that its heap holds on a CPU and does not use.
"""

import json
import sys
from pathlib import Path

import psutil

from tasks import configuration
from tasks.io.system import process

HOLES = {"fp32": 0.25, "bf16": 0.6}
"""Free bytes between the blocks of the heap, as a share of what a step makes and gives back: packs differ in length, and what one leaves free
seldom fits the next. In bf16 the kernels that oneDNN makes for each length lie between them. As measured, see the page of benchmarks."""


def main(stage: str, folder: Path) -> None:
    """Count, and print all three."""
    config = configuration.load()
    settings = configuration.for_stage(stage, config)
    process.quiet()
    process.set_threads(config.compute)
    from tasks.engine import device
    from tasks.engine.training import fit, job  # noqa: F401 - what the stage imports

    taken = psutil.Process().memory_info().rss
    on_cpu = config.compute.model_copy(update={"device": "cpu", "precision": device.precision(config.compute)})
    device.use(on_cpu)
    sections = {name: section for name, section in settings.methods.items() if section is not None}
    size = fit.fit(folder, getattr(settings, stage), sections, on_cpu)
    holes = round(HOLES[on_cpu.precision] * size.step_bytes)
    sys.stdout.write(json.dumps({"tensors": size.memory_bytes, "process": taken, "holes": holes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
