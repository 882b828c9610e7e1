"""The whole graph on a random model: every stage, every mechanism."""

import json

import polars as pl
import pytest


@pytest.fixture(scope="module")
def tiny_run(workspace):
    made = workspace("tiny")
    made.set("threads: 2", "threads: 1")  # two would wait for each other where other tests run beside this one
    made.said = made.run("flows.pipeline")
    return made


def test_every_stage_ran_and_a_verdict_was_given(tiny_run):
    summary = (tiny_run.folder / "data/report/summary.txt").read_text()
    assert "Verdict: r0 is better here" in summary
    assert summary.splitlines()[0] in tiny_run.said
    assert "data/report/index.html" in tiny_run.said


def test_training_lowered_the_domain_loss(tiny_run):
    comparison = json.loads((tiny_run.folder / "data/report/summary.json").read_text())["comparisons"]["r0"]
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
