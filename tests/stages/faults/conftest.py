"""Fixtures of stage `faults`."""

import pytest

from tasks.core.records import Example, FaultPair, Refusal
from tasks.io import tables
from tasks.stages.faults import stage
from tasks.stages.faults.config import StageConfig
from tests.support import ScratchRun


@pytest.fixture
def faults(tiny, tmp_path):
    """Return the pairs, the refusals and the printed lines for these examples under these settings."""

    def of(examples, *sources, name="first", **config):
        folder = tmp_path / name
        folder.mkdir()
        tables.write(folder / "examples.parquet", examples, Example)
        run = ScratchRun(folder, name)
        stage.main(
            {"model": tiny, "examples": folder / "examples.parquet", "raw": folder},
            {"pairs": folder / "faults.parquet", "refused": folder / "refused.parquet"},
            StageConfig.model_validate(
                {"compute": {"precision": "fp32", "threads": 1}, "faults": {"sources": list(sources), **config}}
            ),
            run,
        )
        pairs, refused = (
            tables.read(folder / f"{n}.parquet", r) for n, r in (("faults", FaultPair), ("refused", Refusal))
        )
        return pairs, refused, run

    return of


@pytest.fixture
def speaks(monkeypatch):
    """Replace the answers of the model by given ones, and record its prompts."""
    from tasks.engine.inference import generation

    requests = []

    def of(*answers):
        def write(model, prompts, tokenizer, *, sampling, **_):
            requests.extend(zip(prompts, sampling.keys, strict=True))
            return [generation.Response(answers[number % len(answers)], True) for number in range(len(prompts))]

        monkeypatch.setattr(generation, "respond", write)
        return requests

    return of
