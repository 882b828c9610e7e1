"""Measure the losses of a recorded model again, in a process of its own: `python -m tasks.remeasure NAME RESULTS`.

`ratchet verify` starts it. Items and packs are the same as in stage `evaluate`, and the precision is the recorded one, so that on the same class
of machine the losses are equal to the bit.
"""

import json
import sys
import tempfile
from pathlib import Path

from tasks import configuration
from tasks.io.system import process
from tasks.runner import StageRun, code
from tasks.stages.evaluate.config import StageConfig

LOSSES_ALONE = dict.fromkeys(
    ("pass_items", "gate_items", "answer_items", "preference_items", "human_eval", "samples"), 0
) | dict.fromkeys(("harness", "server", "judge", "tests", "tools", "strength", "facts"))
"""Values of settings with which stage `evaluate` generates nothing and calls no server."""


def main(name: str, results: Path) -> None:
    """Write the losses of the model's items."""
    config = configuration.load()
    process.set_threads(config.compute)
    reads, writes = configuration.files("evaluate", name, config)
    recorded = json.loads(writes["metrics"].read_text(encoding="utf-8"))
    stage_config = _as_recorded(configuration.for_stage("evaluate", config), recorded["settings"]["precision"])
    with tempfile.TemporaryDirectory() as folder:
        outputs = {"results": results, "metrics": Path(folder) / "metrics.json"}
        code("evaluate").main(reads, outputs, stage_config, StageRun("evaluate", name, "recheck", None))


def _as_recorded(stage_config: StageConfig, precision: str) -> StageConfig:
    """Return the stage's settings for losses only, at the recorded precision instead of `auto`."""
    return stage_config.model_copy(
        update={
            "evaluate": stage_config.evaluate.model_copy(update=LOSSES_ALONE),
            "compute": stage_config.compute.model_copy(update={"precision": precision}),
        }
    )


if __name__ == "__main__":
    sys.exit(process.run(lambda: main(sys.argv[1], Path(sys.argv[2]))))
