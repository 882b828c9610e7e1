"""One graph, two drivers: `dvc repro` and the Prefect flow leave the same bytes; another seed leaves others."""

import json
import shutil

import mlflow
import pytest
import yaml

from flows.execution import stage_runner

TRAINED = {f"{stage}@{name}" for stage in ("faults", "tune") for name in ("r0", "r1")}
STAGES = {
    "fetch",
    "ingest",
    "pretrain",
    *TRAINED,
    "diagnose@r1",
    "refine@r1",
    "select",
    "compress",
    "report",
    "register",
}


@pytest.fixture(scope="module")
def by_dvc(workspace):
    copy = workspace("micro")
    copy.run("dvc", "repro", "--quiet")
    copy.run("flows.commands", "tidy")
    return copy


@pytest.fixture(scope="module")
def by_flow(workspace, prefect):
    copy = workspace("micro", PREFECT_API_URL=prefect)
    copy.said = copy.run("flows.pipeline")
    return copy


def runs(workspace):
    """The MLflow runs of a workspace, newest first."""
    client = mlflow.MlflowClient(f"sqlite:///{workspace.folder / 'mlflow.db'}")
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def stage_outputs(workspace, stage):
    """Return the outputs of a stage in `dvc.lock`."""
    return yaml.safe_load(workspace.lock)["stages"][stage]["outs"]


def test_both_drivers_leave_the_same_lock(by_dvc, by_flow):
    assert by_dvc.lock == by_flow.lock


def test_the_fork_server_serves_the_stages_of_a_flow_to_its_end(by_flow):
    assert stage_runner.EARLY not in by_flow.said


def test_the_flow_leaves_nothing_in_the_home_folder(by_flow):
    assert sorted(path.name for path in (by_flow.folder / "home").iterdir()) == []


def test_a_flow_is_one_run_with_a_child_for_each_stage(by_flow):
    every_run = runs(by_flow)
    parents = [run for run in every_run if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in every_run if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert {run.data.tags["dvc.stage"] for run in children} == STAGES
    assert {run.info.status for run in every_run} == {"FINISHED"}


def test_a_round_that_changed_nothing_costs_nothing_and_is_the_same_bytes(by_flow):
    # The examples are conversations, for which the rules have no rewrite.
    assert not json.loads((by_flow.folder / "data/rounds/r1/refinement.json").read_text())["changed"]
    for stage in ("faults", "tune"):
        first, second = ([out["md5"] for out in stage_outputs(by_flow, f"{stage}@{name}")] for name in ("r0", "r1"))
        assert first == second
        run = next(run for run in runs(by_flow) if run.data.tags.get("dvc.stage") == f"{stage}@r1")
        assert run.data.params["taken_over_from"] == f"{stage}@r0"
    selection = json.loads((by_flow.folder / "data/selection.json").read_text())
    assert (selection["round"], len(set(selection["validation"].values()))) == ("r0", 1)


def test_inputs_are_logged_by_dvc_hash(by_flow):
    tune = next(run for run in runs(by_flow) if run.data.tags.get("dvc.stage") == "tune@r0")
    digests = {entry.dataset.name: entry.dataset.digest for entry in tune.inputs.dataset_inputs}
    assert digests["models/pretrained"].endswith(".dir")
    assert digests["models/pretrained"] in by_flow.lock.decode()


def test_metrics_have_their_steps(by_flow):
    tune = next(run for run in runs(by_flow) if run.data.tags.get("dvc.stage") == "tune@r0")
    client = mlflow.MlflowClient(f"sqlite:///{by_flow.folder / 'mlflow.db'}")
    course = json.loads((by_flow.folder / "models/tuned/r0/training.json").read_text())
    steps = [step for step, _tokens, _loss in course["loss"]]
    assert [point.step for point in client.get_metric_history(tune.info.run_id, "train/loss")] == steps


def test_no_tag_or_param_names_a_path_of_the_machine(by_flow):
    for run in runs(by_flow):
        for name, value in {**run.data.tags, **run.data.params}.items():
            assert str(by_flow.folder) not in value, name
            assert not value.startswith("/"), name


def test_equal_seeds_give_equal_bytes_and_another_seed_gives_others(by_dvc, by_flow, tmp_path):
    assert stage_outputs(by_flow, "tune@r0") == stage_outputs(by_dvc, "tune@r0")
    shutil.copytree(by_dvc.folder, tmp_path / "copy", symlinks=True)
    again = by_dvc.at(tmp_path / "copy")
    again.set("  save_every: 2\n  seed: 0", "  save_every: 2\n  seed: 1")
    again.run("dvc", "repro", "--quiet", "--single-item", "tune@r0")
    assert stage_outputs(again, "tune@r0") != stage_outputs(by_dvc, "tune@r0")


def test_a_second_run_changes_nothing_and_points_to_the_first(by_flow, tmp_path):
    shutil.copytree(by_flow.folder, tmp_path / "copy", symlinks=True)  # its runs are none of the first one's
    again = by_flow.at(tmp_path / "copy")
    assert "Nothing changed" in again.run("flows.pipeline")
    assert again.lock == by_flow.lock

    cached = [run for run in runs(again) if run.data.tags.get("ratchet.cached") == "true"]
    assert {run.data.tags["dvc.stage"] for run in cached} == STAGES
    stages = {run.info.run_id: run.data.tags.get("dvc.stage") for run in runs(again)}
    assert all(stages[run.data.tags["ratchet.produced_by"]] == run.data.tags["dvc.stage"] for run in cached)


def test_a_stage_run_by_hand_makes_the_same_bytes(by_dvc):
    """Running under DVC does not change the outputs of a stage."""
    weights = by_dvc.folder / "models/tuned/r0/model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(by_dvc.folder / ".ratchet/made")  # or it would take over what r1 took over from it
    by_dvc.run("tasks.run", "tune", "r0")
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "old", "new", "said"),
    [
        ("flows.pipeline", "  pack_tokens: 512", "  pack_tokenz: 512", "Did you mean pack_tokens"),
        ("flows.pipeline", "  pack_tokens: 512", "  pack_tokens: 0", "greater than or equal to 16"),
        (
            "flows.pipeline",
            "models: {}",
            "models: {b: {group: reference, path: models/base, base: models/base}}",
            "no entry with path models/tuned/r0",
        ),
        # Known once the stage reads; what a flow makes of a stage that fails is in tests/flows/test_pipeline.py.
        ("dvc repro fetch", "path: params/micro-data/model", "path: params/micro-data/none", "params/micro-data/none"),
        (
            "dvc repro ingest",
            "{from: file, path: params/micro-data/questions.jsonl, task: chat, domain: words, license: Apache-2.0}",
            "{from: package, name: not-there}",
            "not-there",
        ),
    ],
)
def test_bad_settings_end_in_one_message(workspace, command, old, new, said):
    broken = workspace("micro")
    broken.set(old, new)
    done = broken.attempt(*command.split())
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(broken.folder.glob("models/tuned/*"))
