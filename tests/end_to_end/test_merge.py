"""A merged model is a model of params.yaml: measured, reported, and the gate's candidate like any other."""

import json
import re

import polars
import pytest


@pytest.fixture(scope="module")
def measured(workspace):
    """Profile `micro` with its base and its round measured, and half of the round's training merged into the base and measured too."""
    copy = workspace("micro")
    base = "{group: reference, path: models/base, base: models/base}"
    tuned = "{group: rounds, path: models/tuned/r0, base: models/pretrained}"
    copy.set("models: {}", f"models:\n  base: {base}\n  r0: {tuned}")
    copy.set("rounds:\n  r0: {}\n  r1: {}", "rounds:\n  r0: {}")
    copy.set("turns:\n  r1: {prev: r0}", "turns: {}")
    copy.set("test: 0.25}", "test: 0.25, gate: 0.2}")
    copy.set("gate: {margins", "gate: {candidate: half, margins")
    copy.run("dvc", "repro", "--quiet", "tune@r0")
    copy.said = copy.run(
        *("flows.commands", "merge", "models/tuned/r0:0.5", "--method", "task_arithmetic"),
        *("--to", "models/merged/half", "--name", "half"),
    )
    copy.run("dvc", "repro", "--quiet")
    return copy


def gate_loss(workspace, name):
    """The loss on the gate set's own examples, in nats per token."""
    rows = polars.read_parquet(workspace.folder / f"data/gate/{name}.parquet").filter(polars.col("measure") == "domain")
    return rows["value"].sum() / rows["tokens"].sum()


def test_the_merged_model_has_the_gates_measures_between_those_of_its_parts(measured):
    losses = {name: gate_loss(measured, name) for name in ("base", "half", "r0")}
    assert losses["r0"] < losses["half"] < losses["base"]


def test_the_report_compares_it_with_the_base(measured):
    summary = json.loads((measured.folder / "data/report/summary.json").read_text())
    assert (summary["reference"], list(summary["comparisons"])) == ("base", ["r0", "half"])


def test_it_is_the_candidate_where_the_gate_names_it(measured):
    candidate = json.loads((measured.folder / "models/candidate.json").read_text())
    assert (candidate["candidate"], candidate["files"].keys()) == ("half", {"model"})
    assert candidate["files"]["model"]["path"] == "models/merged/half"


def test_params_keep_their_comments_and_name_it(measured):
    text = (measured.folder / "params.yaml").read_text()
    assert "  half: {group: merged, path: models/merged/half, base: models/merged/half}\n" in text
    assert text.startswith("# ")
    assert "params.yaml has the model half now." in measured.said
    assert len(measured.said.splitlines()) == 2, "libraries print neither bars nor warnings beside it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r0", r"params\.yaml has a model 'r0' already\. There are: base, r0, half"),
        ("r7", "'r7' names a round, or no file"),
        ("a/b", "'a/b' names a round, or no file"),
    ],
)
def test_a_name_that_is_taken_or_no_name_is_refused_before_anything_is_merged(measured, name, message):
    refused = measured.attempt(
        "flows.commands", "merge", "models/tuned/r0", "--to", "models/merged/new", "--name", name
    )
    assert refused.returncode == 1
    assert re.search(message, refused.stderr)
    assert not (measured.folder / "models/merged/new").exists()
