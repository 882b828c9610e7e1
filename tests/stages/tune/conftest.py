"""A base, examples, and stage `tune` on them."""

import pytest

from tasks.core.records import Example, FaultPair
from tasks.io import tables
from tasks.stages.tune import stage
from tasks.stages.tune.config import StageConfig
from tests import tiny as small
from tests.support import ScratchRun

TUNE = {"pack_tokens": 128, "max_tokens": 3000, "warmup": 0.0, "save_every": 2, "epochs": 3}
METHODS = {"lora": {"rank": 4}, "none": {}, "all": {}, "adamw": {"learning_rate": 0.01}, "cross_entropy": {}}


def examples(count, response="yes, indeed", **fields):
    return [small.example(n, prompt=f"Is {n} a number?", response=response, **fields) for n in range(count)]


@pytest.fixture
def inputs(tiny, tmp_path):
    """A base, examples for training, and others for validation."""
    tables.write(tmp_path / "examples.parquet", examples(20), Example)
    tables.write(tmp_path / "valid.parquet", examples(4, split="valid"), Example)
    tables.write(tmp_path / "faults.parquet", [], FaultPair)
    return {"base": tiny} | {
        kind: tmp_path / f"{kind}.parquet" for kind in ("examples", "faults", "valid", "documents")
    }


@pytest.fixture
def tune(inputs, tmp_path):
    """Run the stage under these settings; return the folder of the tuned model and the run with its logs."""

    def of(name="first", methods=METHODS, precision="fp32", **config):
        run = ScratchRun(tmp_path / name, name)  # the output does not depend on it
        output = tmp_path / name / "model"
        stage.main(
            inputs,
            {"model": output},
            StageConfig.model_validate(
                {"compute": {"precision": precision, "threads": 1}, "tune": TUNE | config, "methods": methods}
            ),
            run,
        )
        return output, run

    return of
