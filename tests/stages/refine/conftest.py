"""A turn that begins with a few examples and what was found of them, and what stage `refine` makes of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.records import Decision, Document, Example, Lineage, Signals
from tasks.io import decisions, diagnosis, tables
from tasks.stages.refine import stage
from tasks.stages.refine.params import Settings
from tests.support import ScratchRun


@dataclass(frozen=True)
class Turn:
    """What came of it."""

    examples: list[Example]
    lineage: list[Lineage]
    found: dict
    run: ScratchRun
    folder: Path

    @property
    def reasons(self):
        return [line.reason for line in self.lineage if not line.accepted]


def signals(example, *chosen, similarity=0.5, neighbours=()):
    """What a diagnosis says of an example."""
    return Signals(
        example.id, 1.0, 1.0, 9, similarity, list(neighbours), None, None, None, None, None, None, None,
        list(chosen), list(chosen), "",
    )  # fmt: skip


@pytest.fixture
def refine(tiny, tmp_path):
    """The turn from these examples, with these sets: a mapping from an example's place to the sets it was chosen for."""

    def of(examples, chosen, *, name="turn", decided=(), evaluation=(), near=None, cache=None, **settings):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        rows = [
            signals(example, *chosen.get(place, ()), similarity=place / 100, neighbours=(near or {}).get(place, ()))
            for place, example in enumerate(examples)
        ]
        inputs = {
            "base": tiny, "tuned": tiny, "embedder": folder, "ingested": folder, "decisions": folder / "decisions.jsonl",
            "examples": folder / "examples.parquet", "signals": folder / "signals.parquet", "diagnosis": folder / "diagnosis.json",
        }  # fmt: skip
        tables.write(inputs["examples"], examples, Example)
        tables.write(inputs["signals"], rows, Signals)
        for split, held in (("valid", ()), ("test", evaluation), ("benchmark", ())):
            tables.write(folder / f"{split}.parquet", held, Example)
        for split in ("valid", "test"):
            tables.write(folder / f"{split}_documents.parquet", [], Document)
        inputs["decisions"].write_text("")
        for decision in decided:
            decisions.append(inputs["decisions"], Decision(**{"author": "ann", "reason": "her word", **decision}))
        made_from = {key: inputs[key] for key in ("base", "tuned", "examples", "signals")}
        inputs["diagnosis"].write_text(json.dumps({"hashes": diagnosis.hashes(made_from)}))
        outputs = {key: folder / f"new_{key}" for key in ("examples", "lineage", "refinement")}
        run = ScratchRun(cache or folder, "r1")
        stage.main(
            inputs, outputs,
            Settings.model_validate({"compute": {"precision": "fp32", "threads": 1}, "refine": settings}), run,
        )  # fmt: skip
        return Turn(
            tables.read(outputs["examples"], Example), tables.read(outputs["lineage"], Lineage),
            json.loads(outputs["refinement"].read_text()), run, folder,
        )  # fmt: skip

    return of
