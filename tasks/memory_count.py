"""Count the memory that a stage's training needs: `python -m tasks.memory_count STAGE FOLDER` prints one JSON object.

This is a process of its own, since flows do not import torch. FOLDER is the model from which the stage starts. `tensors` is the peak size of the
tensors in a step in bytes (`tasks.engine.training.fit`), `process` the size of a process with the stage's imports, and `holes` the bytes that
the heap holds on a CPU without using them.
"""

import json
import sys
from pathlib import Path

import psutil

from tasks import configuration
from tasks.io.system import process

HOLES = {"fp32": 0.25, "bf16": 0.6}
"""Free bytes between the blocks of the heap (fragmentation), as a share of the bytes that a step allocates and frees. Packs differ in length, and
the space that one leaves free rarely fits the next. In bf16, the kernels that oneDNN creates for each length lie in between. The values are
measured; see the page of benchmarks."""


def main(stage: str, folder: Path) -> None:
    """Count the three sizes, and print them."""
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
