"""Run the stage on files of a temporary folder, and read its outputs."""

import json

from tasks.core.records import Example
from tasks.io import tables
from tasks.stages.ingest import stage
from tasks.stages.ingest.config import StageConfig
from tests.support import ScratchRun

TABLES = ("valid", "test", "benchmark")
PLURALS = {"leaf": "leaves", "mouse": "mice", "foot": "feet", "child": "children", "goose": "geese", "knife": "knives"}


def ingest(tmp_path, sources, name="out", *, threads=1, run=None, **changes):
    """Run the stage into `tmp_path/name`."""
    ingest = {
        "sources": sources,
        "near_duplicates": {"cosine": None},
        "splits": {"valid": 0.2, "test": 0.2},
        **changes,
    }
    outputs = {"ingested": tmp_path / name / "ingested", "examples": tmp_path / name / "examples.parquet"}
    (tmp_path / "raw").mkdir(exist_ok=True)
    run = run or ScratchRun(tmp_path)
    inputs = {
        "embedder": tmp_path / "embedder",
        "raw": tmp_path / "raw",
        "decisions": tmp_path / "review_records.jsonl",
    }
    inputs["decisions"].touch()
    config = StageConfig.model_validate({"compute": {"threads": threads}, "ingest": ingest})
    stage.main(inputs, outputs, config, run)
    return run, json.loads((outputs["ingested"] / "report.json").read_text())


def examples_of(tmp_path, name="out"):
    ingested = tmp_path / name / "ingested"
    files = {split: ingested / f"{split}.parquet" for split in TABLES} | {"train": tmp_path / name / "examples.parquet"}
    return {split: tables.read(file, Example) for split, file in files.items()}


def contents(folder):
    """Return the bytes of every file below a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_rows(path, name, number):
    rows = [
        {"prompt": f"What is the {name} of {n}?", "completion": f"It is {name * 20} {n * n}."} for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
