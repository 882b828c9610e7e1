"""A cluster of two nodes makes the trials of a sweep as this machine does, whatever it loses; one message for each cluster that cannot."""

import json
from pathlib import Path

import pytest

from flows.experiments import trial_store
from flows.experiments.sweeps import axes
from flows.experiments.sweeps import sweep as sweeps
from tasks import trial_on_node
from tasks.io import provenance
from tasks.io.runs import run_store
from tests import ray_nodes
from tests.flows.conftest import processes, wait_for

RATE = "methods.adamw.learning_rate"
COSTS = ("tokens_per_s", "peak_memory_mb")
"""What is measured of a clock and of a machine, and no two trainings have alike."""


@pytest.fixture(scope="module")
def cluster():
    with ray_nodes.cluster() as started:
        yield started


@pytest.fixture(scope="module")
def prepared(workspace):
    """A workspace in which everything is there that a trial reads."""
    made = workspace("micro")
    made.run("dvc", "repro", "--quiet", "pretrain", "faults@r0")
    return made.folder


@pytest.fixture
def nodes(cluster, prepared, monkeypatch):
    """The two nodes that work, in the workspace."""
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("RATCHET_RAY", cluster.address)
    return ray_nodes.with_two_nodes(cluster)


def sweep(*texts):
    return sweeps.make(axes.read(texts or [f"{RATE}=0.001,0.003,0.01,0.03"]), tokens=1500)


def made_of(folder):
    """The bytes and figures in a trial's folder that do not tell of time."""
    result = json.loads((folder / "result.json").read_text())
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
    files |= {path.name: path.read_bytes() for path in folder.glob("results.parquet")}
    return {name: value for name, value in result.items() if name not in COSTS}, files


def run_all():
    """What a sweep and its test make, by the folder of each trial."""
    rows = sweeps.run(sweep(), "parent")
    trained = {Path(row.results[0]["folder"]).name: made_of(row.folders[0]) for row in rows}
    winner = sweeps.best(sweep(), rows)
    measured, base = sweeps.measure(sweep(), winner, "parent")
    return trained, {Path(row["folder"]).name: made_of(Path(row["folder"])) for row in (*measured, base)}


def test_a_node_that_is_lost_costs_no_byte_and_no_trial_is_in_the_record_twice(cluster, nodes, monkeypatch):
    kept, lost = trial_on_node.keep, []

    def keep(ended, folder, result):
        kept(ended, folder, result)
        if not lost:
            wait_for(lambda: len(processes("ratchet-trial-")) == 2)  # both nodes work on the last two
            lost.append(cluster.remove_node(nodes[0], allow_graceful=False))

    monkeypatch.setattr(trial_on_node, "keep", keep)
    on_cluster = run_all()
    assert lost
    names = [
        json.loads(line)["name"]
        for path in run_store.SPOOL.glob("*.jsonl")
        for line in path.read_text().splitlines()
        if json.loads(line)["kind"] == "start"
    ]
    assert len(names) == 6, "four trainings, the best on the test set, and the base"
    wait_for(lambda: not processes("ratchet-trial-"))

    monkeypatch.delenv("RATCHET_RAY")
    monkeypatch.setattr(trial_store, "FOLDER", Path(".ratchet/here"))
    here = run_all()
    assert any(files for _, files in here[0].values())
    assert on_cluster == here


def test_a_trial_that_fails_on_a_node_says_there_why(nodes, capsys, monkeypatch):
    folder = trial_store.prepare(sweeps.plan(sweep(), {RATE: 0.5}, 0))
    request = json.loads((folder / "trial.json").read_text())
    (folder / "trial.json").write_text(json.dumps(request | {"trained": "nowhere", "stage": None}))
    with (
        trial_store.Runner("sweep", "parent") as runner,
        pytest.raises(RuntimeError, match=rf"{RATE}=0\.5 · seed 0 failed; the lines above say why"),
    ):
        list(runner.results([folder]))
    assert "nowhere/result.json" in capsys.readouterr().out
    assert not trial_store.is_finished(folder)


def test_nodes_with_other_packages_are_named_with_them(nodes, monkeypatch):
    other = provenance.machine_class() | {"torch": "1.0"}
    monkeypatch.setattr(provenance, "machine_class", lambda: other)
    with pytest.raises(ValueError, match=r"has torch \S+ in place of 1\.0\. Install the same commit on every node"):
        sweeps.run(sweep(f"{RATE}=0.2,0.3"), "parent")


def test_a_cluster_of_another_ray_is_one_message(nodes, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "__version__", "2.0.0")
    with pytest.raises(RuntimeError, match=r"has another Ray or Python than this machine .*constraints\.txt") as error:
        sweeps.run(sweep(f"{RATE}=0.2,0.3"), "parent")
    assert "\n" not in str(error.value)


def test_what_no_node_has_is_told_with_what_they_have(nodes, monkeypatch):
    params = Path("params.yaml")
    before = params.read_text()
    params.write_text(before + "resources: {tune: {cores: 64, memory_gb: 9000}}\n")
    try:
        with pytest.raises(RuntimeError, match=r"has 64 cores, 9000 GB of memory, which a trial takes.*have: 1 cores"):
            sweeps.run(sweep(f"{RATE}=0.2,0.3"), "parent")
    finally:
        params.write_text(before)
