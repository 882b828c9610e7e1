"""A turn of the loop: a few examples with their signals, which the stage refines."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.records import Example, Lineage
from tasks.io import tables
from tests.stages.refine.turns import prepare, work
from tests.support import ScratchRun


@dataclass(frozen=True)
class Turn:
    """The outputs of the stage."""

    examples: list[Example]
    lineage: list[Lineage]
    record: dict
    run: ScratchRun
    folder: Path

    @property
    def reasons(self):
        return [line.reason for line in self.lineage if not line.accepted]


@pytest.fixture
def refine(tiny, tmp_path):
    """Return a function that refines examples; `chosen` maps an example's position to the sets it was chosen for."""

    def of(examples, chosen, *, name="turn", decided=(), evaluation=(), near=None, tasks=None, **config):
        folder = tmp_path / name
        inputs = prepare(
            folder, tiny, examples, chosen, decided=decided, evaluation=evaluation, near=near, **(tasks or {})
        )
        run = work(inputs, folder, config)
        return Turn(
            tables.read(folder / "new_examples", Example), tables.read(folder / "new_lineage", Lineage),
            json.loads((folder / "new_refinement").read_text()), run, folder,
        )  # fmt: skip

    return of
