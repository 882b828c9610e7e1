"""`ratchet compare` and `ratchet sweep` on a tiny model: every trial is a process of its own and is run once, whoever asks for it."""

import json
import re

import mlflow
from pydantic import TypeAdapter

from flows.commands import _as_json, _comparisons

RECIPE = """\
compositions:
  full: {adapter: none}
learning_rates: [3.0e-3, 1.0e-2, 3.0e-2, 1.0e-1]
seeds: 2
tokens: 1500
"""


def test_a_comparison_is_measured_once_and_shown_again(workspace):
    copy = workspace("micro")
    refused = copy.attempt("flows.commands", "compare", "lora")
    assert refused.returncode == 1
    assert "ratchet run tune@r0" in refused.stderr
    copy.run("dvc", "repro", "--quiet", "pretrain", "faults@r0")
    (copy.folder / "recipe.yaml").write_text(RECIPE)

    said = copy.run("flows.commands", "compare", "recipe.yaml")
    assert "4 trainings to choose learning rates, 2 to measure, at least 9,000 tokens" in said
    assert re.search(r"Time: \S+ (s|min|h), by the measured speed of this machine", said)
    table = copy.folder / ".ratchet/compare/recipe/table.md"
    assert table.read_text() in said
    assert "| full * |" in table.read_text()
    assert "\nBase: domain loss " in table.read_text()
    assert (copy.folder / ".ratchet/compare/recipe/pareto.svg").is_file()
    kept = json.loads((copy.folder / ".ratchet/compare/recipe/figures.json").read_text())
    assert [(row["composition"], row["seed"]) for row in kept] == [(None, 0), ("full", 0), ("full", 1)]
    trials = runs(copy)
    assert len(trials) == 7
    assert all(
        ("tokens_per_s" in trial.data.metrics) == (trial.data.params["composition"] != "base") for trial in trials
    )

    again = copy.run("flows.commands", "compare", "recipe.yaml")
    assert table.read_text() in again
    assert len(runs(copy)) == len(trials)

    result = next(copy.folder.glob(".ratchet/compare/*/result.json"))  # as if it had been killed in the middle
    result.unlink()
    copy.run("flows.commands", "compare", "recipe.yaml")
    assert result.is_file()
    assert len(runs(copy)) == len(trials) + 1

    a_sweep_takes_over_what_the_comparison_trained(copy, best=kept[1]["rate"])


def a_sweep_takes_over_what_the_comparison_trained(copy, best):
    rate = "methods.adamw.learning_rate"
    command = (
        "flows.commands",
        "sweep",
        "--set",
        f"{rate}=0.003,0.01,0.03,0.1",
        "--tokens",
        "1500",
        "--take",
        "--json",
    )
    done = copy.attempt(*command)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert _as_json.plain(TypeAdapter(_comparisons.SweepReport).validate_python(report)) == report
    assert report["trainings"] == 0
    assert report["best"] == report["points"][0]["settings"] == {rate: best}
    assert report["points"][0]["interval"] is None
    assert report["test"]["gain"]["high"] < 0
    assert not list(copy.folder.glob(".ratchet/compare/*/model"))
    assert f"adamw: {{learning_rate: {best:g}}}" in (copy.folder / "params.yaml").read_text()
    assert (copy.folder / report["folder"] / "index.html").is_file()


def runs(workspace):
    """The trials that MLflow knows, whose metrics are there."""
    client = mlflow.MlflowClient(f"sqlite:///{workspace.folder / 'mlflow.db'}")
    every_run = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [run for run in every_run if "ratchet.compare" in run.data.tags]
