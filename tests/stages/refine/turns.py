"""Write the inputs of a turn and run the stage on them, in this process or in one that is killed."""

import json
import sys
from pathlib import Path
from typing import Any

from tasks.core.records import Decision, Document, Example, Probe, Signals
from tasks.io import diagnosis, review_decisions, tables
from tasks.io.sources import gym
from tasks.stages.refine import stage
from tasks.stages.refine.config import StageConfig
from tests.support import ScratchRun


def signals(example, *chosen, similarity=0.5, neighbours=()):
    """Return the signals of an example."""
    return Signals(
        example.id, 1.0, 1.0, 9, similarity, list(neighbours), None, None, None, None, None, None, None,
        list(chosen), list(chosen), "",
    )  # fmt: skip


def prepare(
    folder, model, examples, chosen, *, decided=(), evaluation=(), near=None, kinds=None, probes=(), generated=()
):
    """Write the inputs of a turn and return their paths. `kinds` is the diagnosis of a curator that works on generated tasks."""
    folder.mkdir(exist_ok=True)
    rows = [
        signals(example, *chosen.get(place, ()), similarity=place / 100, neighbours=(near or {}).get(place, ()))
        for place, example in enumerate(examples)
    ]
    inputs = {
        "base": model, "tuned": model, "embedder": folder, "ingested": folder, "decisions": folder / "decisions.jsonl",
        "examples": folder / "examples.parquet", "signals": folder / "signals.parquet", "diagnosis": folder / "diagnosis.json",
        "probes": folder / "probes.parquet",
    }  # fmt: skip
    tables.write(inputs["probes"], probes, Probe)
    gym.write_kinds(folder / "generated.json", generated)
    tables.write(inputs["examples"], examples, Example)
    tables.write(inputs["signals"], rows, Signals)
    for split, held in (("valid", ()), ("test", evaluation), ("gate", ()), ("benchmark", ())):
        tables.write(folder / f"{split}.parquet", held, Example)
    for split in ("valid", "test", "gate"):
        tables.write(folder / f"{split}_documents.parquet", [], Document)
    inputs["decisions"].write_text("")
    for decision in decided:
        review_decisions.append(inputs["decisions"], Decision(**{"author": "ann", "reason": "her word", **decision}))
    made_from = {key: inputs[key] for key in ("base", "tuned", "examples", "signals")}
    measured = {"curator": "middo"} if kinds is None else {"curator": "failures", "kinds": kinds}
    inputs["diagnosis"].write_text(json.dumps({"hashes": diagnosis.hashes(made_from), **measured}))
    return inputs


def work(inputs: dict[str, Any], folder: str | Path, config: dict[str, Any]) -> ScratchRun:
    """Run the stage with `folder` as work folder and as folder of its outputs."""
    run = ScratchRun(Path(folder), "r1")
    outputs = {key: Path(folder) / f"new_{key}" for key in ("examples", "lineage", "refinement")}
    sections = {"compute": {"precision": "fp32", "threads": 1}, "refine": config}
    stage.main({key: Path(path) for key, path in inputs.items()}, outputs, StageConfig.model_validate(sections), run)
    return run


if __name__ == "__main__":
    work(*json.loads(sys.argv[1]))
