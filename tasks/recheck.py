"""A recorded model measured once more, in a process of its own: `python -m tasks.recheck NAME RESULTS`.

`ratchet verify` asks for it. The losses alone, on the items and in the packs of stage `evaluate`, in the precision that the record
names: on the same class of machine they are equal to the bit.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tasks import settings
from tasks.io import process
from tasks.run import StageRun, code

LOSSES_ALONE = {"pass_items": 0, "gate_items": 0, "human_eval": 0, "samples": 0, "harness": None}


def main(name: str, results: Path) -> None:
    """Write what the model's items are worth now."""
    everything = settings.load()
    process.set_threads(everything.compute)
    reads, writes = settings.files("evaluate", name, everything)
    recorded = json.loads(writes["metrics"].read_text(encoding="utf-8"))
    own = _as_recorded(settings.for_stage("evaluate", everything), recorded["settings"]["precision"])
    with tempfile.TemporaryDirectory() as folder:
        outputs = {"results": results, "metrics": Path(folder) / "metrics.json"}
        code("evaluate").main(reads, outputs, own, StageRun("evaluate", name, "recheck", None))


def _as_recorded(own: Any, precision: str) -> Any:
    """The stage's settings without answers, and in the precision that `auto` was then."""
    return own.model_copy(
        update={
            "evaluate": own.evaluate.model_copy(update=LOSSES_ALONE),
            "compute": own.compute.model_copy(update={"precision": precision}),
        }
    )


if __name__ == "__main__":
    sys.exit(process.run(lambda: main(sys.argv[1], Path(sys.argv[2]))))
