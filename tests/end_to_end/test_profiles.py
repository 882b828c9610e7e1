"""Every profile can be planned, those too that this machine cannot run."""

import json
from pathlib import Path

import pytest
import yaml

PROFILES = sorted(path.stem for path in Path(__file__).resolve().parents[2].glob("params/*.yaml"))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_fresh_workspace_plans_every_stage(workspace, profile):
    copy = workspace(profile)
    steps = json.loads(copy.attempt("flows.commands", "plan", "--json").stdout)["stages"]
    config = yaml.safe_load((copy.folder / "params.yaml").read_text())
    rounds, turns, models = (config[name] for name in ("rounds", "turns", "models"))
    items = {"faults": rounds, "tune": rounds, "diagnose": turns, "refine": turns, "evaluate": models}
    expected = {f"{stage}@{name}" for stage, names in items.items() for name in names}
    assert {step["stage"] for step in steps} == expected | {
        "fetch",
        "ingest",
        "pretrain",
        "select",
        "compress",
        "report",
        "register",
    }
    assert steps[0]["state"] == "run"


def test_a_profile_is_taken_into_use(workspace):
    copy = workspace("micro")
    copy.run("flows.commands", "use", "reasoning")
    assert (copy.folder / "params.yaml").read_bytes() == (copy.folder / "params/reasoning.yaml").read_bytes()


def test_own_rows_run_without_an_edit(workspace, prefect):
    copy = workspace("micro", PREFECT_API_URL=prefect)
    rows = [{"question": f"How many legs have {n} cats?", "answer": f"{4 * n} legs in all"} for n in range(60)]
    lines = [json.dumps(row) for row in rows] + ["no json", json.dumps({"foo": 1})]
    (copy.folder / "mine.jsonl").write_text("\n".join(lines) + "\n")

    said = copy.run("flows.commands", "init", "mine.jsonl")
    assert said.count("→") == 5
    assert "of 62 records read, 60 can be used" in said
    copy.run("flows.commands", "run", "tune@r0")

    report = json.loads((copy.folder / "data/ingested/report.json").read_text())["sources"]["file data/raw/mine.jsonl"]
    assert report["read"] == 62 == report["kept"] + report["merged"] + sum(report["refused"].values())
    assert (copy.folder / "models/tuned/r0/model.safetensors").is_file()
