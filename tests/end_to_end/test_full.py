"""Profile `full` on the random model and the few data of profile `tiny`: every stage does its work, and both drivers agree."""

import json

import polars as pl
import pytest
import yaml

pytestmark = pytest.mark.slow

SMALLER = {
    "pretrain": {"max_tokens": 8000, "probe_tokens": 500, "valid_tokens": 1000},
    "tune": {"max_tokens": 20000, "pack_tokens": 2048},
    "evaluate": {"domain_tokens": 20000, "text_tokens": 10000, "pass_items": 0},
}


@pytest.fixture(scope="module")
def small(workspace):
    """Makes a workspace with the composition of profile `full` on what profile `tiny` is made of."""

    def make():
        made = workspace("full")
        full, tiny = (yaml.safe_load((made.folder / f"params/{name}.yaml").read_text()) for name in ("full", "tiny"))
        for section, changes in SMALLER.items():
            full[section] |= changes
        full["methods"]["adept"]["layers"] = 1
        parts = {name: tiny[name] for name in ("fetch", "ingest")} | {"compute": tiny["compute"] | {"threads": 1}}
        (made.folder / "params.yaml").write_text(yaml.safe_dump(full | parts, sort_keys=False))
        return made

    return make


@pytest.fixture(scope="module")
def by_flow(small):
    made = small()
    made.run("flows.pipeline")
    return made


def read(workspace, name):
    return json.loads((workspace.folder / name).read_text())


def test_no_stage_passes_anything_through(by_flow):
    grown, base = (read(by_flow, f"models/{name}/config.json")["num_hidden_layers"] for name in ("pretrained", "base"))
    assert grown == base + 1
    for name in ("r0", "r1"):
        assert len(pl.read_parquet(by_flow.folder / f"data/rounds/{name}/faults.parquet"))
        assert read(by_flow, f"models/tuned/{name}/ratchet.json")["method"]["objective"] == "fait"
        assert read(by_flow, f"models/tuned/{name}/training.json")["tokens"] > 0
    assert len(pl.read_parquet(by_flow.folder / "data/rounds/r1/signals.parquet"))
    assert read(by_flow, "data/rounds/r1/refinement.json")["changed"]
    assert (by_flow.folder / "models/compressed/model.gguf").is_file()
    assert read(by_flow, "models/candidate.json")["candidate"] == "compressed"


def test_every_model_on_the_way_is_measured(by_flow):
    compared = read(by_flow, "data/report/summary.json")["comparisons"]
    assert set(compared) == {"pretrained", "r0", "r1", "compressed"}


def test_plain_dvc_leaves_the_same_bytes(by_flow, small):
    other = small()
    other.run("dvc", "repro", "--quiet")
    other.run("flows.commands", "tidy")
    assert other.lock == by_flow.lock
