"""The whole graph on a random model, composed as profile `full` is: every stage does its work."""

import json
import shutil

import mlflow
import polars as pl
import pytest
import yaml

MODELS = ["base", "pretrained", "r0", "r1", "compressed"]


@pytest.fixture(scope="module")
def fresh(workspace, prefect):
    """Makes a workspace in which nothing has run."""

    def make():
        copy = workspace("tiny", PREFECT_API_URL=prefect)
        copy.set("threads: 2", "threads: 1")  # two would wait for each other where other tests run beside this one
        return copy

    return make


@pytest.fixture(scope="module")
def tiny_run(fresh):
    copy = fresh()
    copy.said = copy.run("flows.pipeline")
    return copy


def read(workspace, name):
    return json.loads((workspace.folder / name).read_text())


def test_no_stage_passes_anything_through(tiny_run):
    grown, base = (read(tiny_run, f"models/{name}/config.json")["num_hidden_layers"] for name in ("pretrained", "base"))
    assert grown == base + 1
    for name in ("r0", "r1"):
        assert len(pl.read_parquet(tiny_run.folder / f"data/rounds/{name}/faults.parquet"))
        assert read(tiny_run, f"models/tuned/{name}/ratchet.json")["method"]["objective"] == "fait"
        assert read(tiny_run, f"models/tuned/{name}/training.json")["tokens"] > 0
    assert len(pl.read_parquet(tiny_run.folder / "data/rounds/r1/signals.parquet"))
    assert read(tiny_run, "data/rounds/r1/refinement.json")["changed"]
    assert (tiny_run.folder / "models/compressed/model.gguf").is_file()
    assert read(tiny_run, "models/candidate.json")["candidate"] == "compressed"


def test_plain_dvc_trains_the_same_bytes(tiny_run, fresh):
    other = fresh()
    other.run("dvc", "repro", "--quiet", "tune@r1")
    trained, full_lock = (yaml.safe_load(copy.lock)["stages"] for copy in (other, tiny_run))
    assert trained.keys() >= {"pretrain", "faults@r0", "tune@r0", "diagnose@r1", "refine@r1", "faults@r1", "tune@r1"}
    assert trained == {stage: full_lock[stage] for stage in trained}


def test_every_stage_ran_and_a_verdict_was_given(tiny_run):
    summary = (tiny_run.folder / "data/report/summary.txt").read_text()
    assert "Verdict: r0 is better here" in summary
    assert summary.splitlines()[0] in tiny_run.said
    assert "data/report/index.html" in tiny_run.said


def test_training_lowered_the_domain_loss(tiny_run):
    compared = read(tiny_run, "data/report/summary.json")["comparisons"]
    assert list(compared) == MODELS[1:]
    comparison = compared["r0"]
    domain = next(row for row in comparison["rows"] if (row["measure"], row["unit"]) == ("domain", "nats/token"))
    assert domain["difference"]["high"] < 0


def test_both_models_were_measured_on_the_same_items(tiny_run):
    base, tuned = (
        pl.read_parquet(tiny_run.folder / "data/results" / place).select("measure", "item", "tokens")
        for place in ("reference/base.parquet", "rounds/r0.parquet")
    )
    assert base.equals(tuned)
    drawn = {"sampled pass@1", "sampled pass@3", *(f"sample {number}" for number in range(3))}
    assert set(base["measure"]) == {"domain", "domain_text", "general", "pass@1"} | drawn


def test_models_are_linked_to_the_cache_and_not_copied(tiny_run):
    weights = tiny_run.folder / "models/base/model.safetensors"
    assert weights.stat().st_nlink > 1 or weights.is_symlink()


def test_dvc_agrees_that_all_is_up_to_date(tiny_run):
    assert "up to date" in tiny_run.run("dvc", "status")


@pytest.fixture(scope="module")
def handed_over(tiny_run, tmp_path_factory):
    """Return a workspace after `git clone` and `dvc pull`, with a remote in a folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    said = tiny_run.run("flows.commands", "share", "--to", str(folder / "store"))
    assert "data/runs.jsonl: 19 MLflow runs, which made the outputs of 18 stages" in said
    clone = tiny_run.cloned(folder / "clone")
    clone.run("dvc", "pull", "--quiet")
    return clone


def test_a_clone_that_pulled_holds_what_the_record_says_without_training(tiny_run, handed_over):
    said = handed_over.run("flows.commands", "verify")
    assert "✗" not in said
    assert "outputs have the hashes of dvc.lock" in said
    assert "models/tuned/r1: weights" in said
    for name in MODELS:
        for measure in ("domain", "domain_text", "general"):
            assert f"✓ {name}: {measure} loss" in said
    assert said.count("bit-identical to the record") == 3 * len(MODELS)
    assert handed_over.lock == tiny_run.lock
    assert not (handed_over.folder / ".ratchet/work").exists()  # nothing trained


def test_its_runs_came_along_and_twice_is_once(handed_over):
    client = mlflow.MlflowClient(f"sqlite:///{handed_over.folder / 'mlflow.db'}")

    def runs():
        return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])

    handed_over.run("flows.commands", "verify", "--no-measure")
    assert {run.data.tags.get("dvc.stage") for run in runs()} >= {"tune@r0", "evaluate@base", None}
    before = len(runs())
    assert f"0 MLflow runs taken over, {before} known already" in handed_over.run(
        "flows.commands", "verify", "--no-measure"
    )
    assert len(runs()) == before


def test_what_is_not_as_recorded_is_named(handed_over, tmp_path_factory):
    other = handed_over.at(tmp_path_factory.mktemp("other") / "clone")
    shutil.copytree(handed_over.folder, other.folder, symlinks=True)
    weights = other.folder / "models/tuned/r0/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    done = other.attempt("flows.commands", "verify", "r0")
    assert done.returncode == 3
    assert "✗ models/tuned/r0 was changed by hand" in done.stdout
    assert "✗ models/tuned/r0: its weights are" in done.stdout
