"""Stage `pretrain` on a few texts of both corpora, and its output for each baseline."""

import random
from functools import cache

import pytest

from tasks.core.records import Document
from tasks.io import tables
from tasks.stages.pretrain import stage
from tasks.stages.pretrain.config import StageConfig
from tests.support import ScratchRun

PRETRAIN = {
    "pack_tokens": 128,
    "max_tokens": 1500,
    "epochs": 2,
    "warmup": 0.1,
    "save_every": 3,
    "probe": {"tokens": 200},
    "valid_tokens": 300,
}
METHODS = {
    "adept": {"layers": 1, "interval": 2},
    "llama_pro": {"layers": 1},
    "lora": {"rank": 4},
    "pat": {"rank": 4, "alpha": 8, "operator_rank": 4},
    "none": {},
    "all": {},
    "adamw": {"learning_rate": 0.01},
    "cross_entropy": {},
}
BASELINES = {
    "full": {},
    "lora": {"adapter": "lora"},
    "pat": {"adapter": "pat"},
    "full with replay": {"replay": 0.3},
    "llama_pro": {"expander": "llama_pro"},
    "adept": {"expander": "adept"},
    "adept with replay": {"expander": "adept", "replay": 0.3},
}
WORDS = {
    "domain": ["def", "return", "lambda", "yield", "import", "class"],
    "general": ["the", "of", "and", "to", "in", "is", "that"],
}


def documents(domain, count, split="train", seed=0):
    """Return texts of a few words that only this corpus has."""
    draw = random.Random(f"{domain}/{split}/{seed}")
    return [
        Document(
            id=f"{domain}-{split}-{number}",
            text=" ".join(draw.choice(WORDS.get(domain, WORDS["domain"])) for _ in range(draw.randint(8, 30))),
            domain=domain,
            group=f"group-{number}",
            split=split,
            source="by hand",
            license="Apache-2.0",
        )
        for number in range(count)
    ]


def write(folder):
    """Write documents of both corpora, for training and for validation."""
    for split, count in (("train", 20), ("valid", 5)):
        rows = [*documents("domain", count, split), *documents("general", count, split)]
        tables.write(folder / f"{split}.parquet", rows, Document)
    return {"train": folder / "train.parquet", "valid": folder / "valid.parquet"}


def execute(inputs, folder, sections=METHODS, **config):
    """Run the stage under these settings; return the folder of the pretrained model and the run with its logs."""
    run = ScratchRun(folder)
    given = {"compute": {"precision": "fp32", "threads": 1}, "pretrain": PRETRAIN | config, "methods": sections}
    stage.main(inputs, {"model": folder / "model"}, StageConfig.model_validate(given), run)
    return folder / "model", run


@pytest.fixture
def inputs(tiny, tmp_path):
    return {"base": tiny} | write(tmp_path)


@pytest.fixture
def pretrain(inputs, tmp_path):
    return lambda name="first", *sections, **config: execute(inputs, tmp_path / name, *sections, **config)


@pytest.fixture(scope="module")
def baseline(tiny, tmp_path_factory):
    """Return a function that trains each baseline once and returns its output."""
    folder = tmp_path_factory.mktemp("baselines")
    inputs = {"base": tiny} | write(folder)
    return cache(lambda name: execute(inputs, folder / name, **BASELINES[name]))
