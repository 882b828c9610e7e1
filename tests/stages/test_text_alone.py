"""From a folder of manuals to a report, with no example anywhere: every stage in turn, on a model of random weights."""

import csv
import json

import pytest

from tasks.core.records import Result
from tasks.core.stage import Model
from tasks.io import tables
from tasks.stages.evaluate import stage as evaluate
from tasks.stages.evaluate.config import StageConfig as EvaluateSettings
from tasks.stages.ingest import stage as ingest
from tasks.stages.ingest.config import StageConfig as IngestSettings
from tasks.stages.pretrain import stage as pretrain
from tasks.stages.pretrain.config import StageConfig as PretrainSettings
from tasks.stages.report import stage as report
from tasks.stages.report.config import StageConfig as ReportSettings
from tasks.stages.tune import stage as tune
from tasks.stages.tune.config import StageConfig as TuneStageConfig
from tests.stages.ingest.planting import page
from tests.support import NOTHING_DECIDED, ScratchRun

SETTINGS = {
    "compute": {"precision": "fp32", "threads": 1},
    "ingest": {
        "corpora": {"general": [{"from": "topics"}], "max_chars": 12_000},
        "near_duplicates": {"cosine": None},
        "splits": {"valid": 0.2, "test": 0.2},
    },
    "pretrain": {
        "expander": "adept",
        "replay": 0.1,
        "max_tokens": 4_000,
        "pack_tokens": 256,
        "probe": {"tokens": 300},
        "valid_tokens": 800,
        "save_every": 3,
    },
    "tune": {"adapter": "none", "max_tokens": 0},
    "evaluate": {"text_tokens": 1_500, "max_tokens": 256, "pass_items": 0},
    "report": {},
    "turns": {},
    "methods": {
        "adept": {"layers": 2, "interval": 3},
        "all": {},
        "adamw": {"learning_rate": 0.02},
        "cross_entropy": {},
        "none": {},
        "plain": {},
    },
}


def settings(kind, **more):
    """What a stage reads of SETTINGS."""
    return kind.model_validate({name: (SETTINGS | more)[name] for name in kind.model_fields})


@pytest.fixture
def finished(tiny, tmp_path):
    """The folder in which every stage has run."""
    data, models = tmp_path / "data", tmp_path / "models"
    ingested, r0 = data / "ingested", data / "r0.parquet"
    for manual in ("diameter", "megaco", "snmp"):
        for number in range(8):
            page(data / "raw" / manual, number)
    corpora = SETTINGS["ingest"]["corpora"] | {"domain": [{"from": "folder", "path": data / "raw"}]}
    ingest.main(
        {"embedder": models / "embedder", "raw": data / "raw", "decisions": NOTHING_DECIDED},
        {"ingested": ingested, "examples": r0},
        settings(IngestSettings, ingest=SETTINGS["ingest"] | {"corpora": corpora}),
        ScratchRun(tmp_path),
    )
    pretrain.main(
        {"base": tiny} | {split: ingested / f"{split}_documents.parquet" for split in ("train", "valid")},
        {"model": models / "pretrained"},
        settings(PretrainSettings),
        ScratchRun(tmp_path),
    )
    tune.main(
        {"base": models / "pretrained", "examples": r0, "valid": ingested / "valid.parquet"},
        {"model": models / "tuned" / "r0"},
        settings(TuneStageConfig),
        ScratchRun(tmp_path, "r0"),
    )
    measured = {"base": ("reference", tiny), "pretrained": ("rounds", models / "pretrained")}
    for name, (group, folder) in measured.items():
        place = f"{group}/{name}"
        (data / "metrics" / group).mkdir(parents=True)
        evaluate.main(
            {
                "base": tiny,
                "model": folder,
                "test": ingested / "test.parquet",
                "documents": ingested / "test_documents.parquet",
                "decisions": NOTHING_DECIDED,
            },
            {"metrics": data / "metrics" / f"{place}.json", "results": data / "results" / f"{place}.parquet"},
            settings(EvaluateSettings),
            ScratchRun(tmp_path, name),
        )
    report.main(
        {
            "base": tiny / "ratchet.json",
            "pretrained": models / "pretrained",
            "tuned": models / "tuned",
            "rounds": data / "rounds",
            "selection": data / "selection.json",
            "ingested": ingested / "report.json",
            "test": ingested / "test.parquet",
            "documents": ingested / "test_documents.parquet",
            "metrics": data / "metrics",
            "results": data / "results",
        },
        {"report": data / "report"},
        settings(
            ReportSettings,
            models={
                name: Model(path=f"models/{name}", base="models/base", group=group)
                for name, (group, _) in measured.items()
            },
        ),
        ScratchRun(tmp_path),
    )
    return tmp_path


def test_manuals_alone_lead_to_a_verdict_and_to_the_way_it_came_about(finished):
    summary = json.loads((finished / "data/report/summary.json").read_text())
    (found,) = summary["comparisons"].values()
    assert found["here"] == "better"
    assert ": domain text loss −" in found["verdict"]
    assert found["pass@1 not run"] == "evaluate.pass_items is 0"
    assert {row["measure"] for row in found["rows"]} == {"domain_text", "general"}

    rows = tables.read(finished / "data/results/rounds/pretrained.parquet", Result)
    assert {row.group for row in rows if row.measure == "domain_text"} <= {
        f"raw/{path.relative_to(finished / 'data/raw').as_posix()}" for path in finished.glob("data/raw/*/*.html")
    }

    with (finished / "data/report/plots/forgetting.csv").open() as file:
        start, *way = csv.DictReader(file)
    assert (start["tokens"], float(start["domain"]), float(start["general"])) == ("0", 0.0, 0.0)
    assert len(way) >= 5
    assert float(way[-1]["domain"]) < -0.2
    assert "Forgetting against domain gain" in (finished / "data/report/index.html").read_text()


def test_the_round_is_the_pretrained_model(finished):
    pretrained, r0 = finished / "models/pretrained", finished / "models/tuned/r0"
    names = {path.name for path in pretrained.iterdir()}
    assert {path.name for path in r0.iterdir()} == names - {"training.json"} >= {"expansion.json", "model.safetensors"}
    assert all((r0 / name).samefile(pretrained / name) for name in names - {"training.json"})
