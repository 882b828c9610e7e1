"""A cluster of two nodes makes the trials of a sweep, and answers and measures of a model, as this machine does, whatever it loses; one
message for each cluster that cannot."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from flows.experiments import trial_store
from flows.experiments.sweeps import axes
from flows.experiments.sweeps import sweep as sweeps
from tasks import trial_on_node
from tasks.core.answers import registry
from tasks.core.answers.base import Row
from tasks.core.compute import Compute
from tasks.core.records import Document, Example, Message
from tasks.core.text.writing import Decoding
from tasks.engine.inference import answer_cache, embedding, readout, scoring, writer
from tasks.engine.inference.local_model import LocalModel
from tasks.io import provenance, tables
from tasks.io.runs import run_store
from tasks.io.system.workers import WORTH, Workers
from tasks.stages.diagnose import stage as diagnose
from tasks.stages.diagnose.config import StageConfig as DiagnoseConfig
from tasks.stages.evaluate import stage as evaluate
from tasks.stages.evaluate.config import StageConfig as EvaluateConfig
from tests import ray_nodes
from tests import tiny as small
from tests.end_to_end.conftest import Workspace
from tests.flows.conftest import wait_for
from tests.support import NOTHING_DECIDED, ScratchRun

RATE, RATES = "methods.adamw.learning_rate", (0.001, 0.003, 0.01, 0.03)
COSTS = ("tokens_per_s", "peak_memory_mb")
"""What is measured of a clock and of a machine, and no two trainings have alike."""
STAGES = """
from tasks import runner
for stage, item in ("fetch", None), ("ingest", None), ("pretrain", None), ("faults", "r0"):
    runner.run_stage(stage, item)
"""
in_time = partial(wait_for, seconds=900)
"""Wait for what trials do on a machine on which other work may leave them a twentieth of a core."""


@pytest.fixture(scope="module")
def cluster():
    with ray_nodes.cluster() as started:
        yield started


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace in which everything is there that a trial reads."""
    made = Workspace(tmp_path_factory.mktemp("trials"), "micro", {"RATCHET_PARENT": "nobody"})
    subprocess.run([sys.executable, "-c", STAGES], cwd=made.folder, env=made.environment, check=True)
    return made.folder


@pytest.fixture
def nodes(cluster, prepared, monkeypatch):
    """The two nodes that work, in the workspace, where no run is in the record."""
    monkeypatch.chdir(prepared)
    shutil.rmtree(run_store.SPOOL, ignore_errors=True)  # of the stages, or of a test before
    monkeypatch.setenv("RATCHET_RAY", cluster.address)
    return ray_nodes.with_two_nodes(cluster)


def sweep(*texts):
    return sweeps.make(axes.read(texts or [f"{RATE}={','.join(map(str, RATES))}"]), tokens=1500)


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


def at_work():
    """The processes of trials that nodes have under way."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "tasks.run_trial" in (words := process.info["cmdline"] or []) and words[-1].startswith(os.environ["TMPDIR"])
    ]


def busy(nodes):
    """The nodes that have a trial under way."""
    above = set()
    for process in at_work():
        with contextlib.suppress(psutil.NoSuchProcess):
            above |= {parent.pid for parent in process.parents()}
    return [node for node in nodes if node.all_processes["raylet"][0].process.pid in above]


def recorded():
    """The name of each run of a trial in the record, and how it ended."""
    spools = [[json.loads(line) for line in path.read_text().splitlines()] for path in run_store.SPOOL.glob("*.jsonl")]
    return [(events[0]["name"], events[-1].get("status")) for events in spools]


def test_a_sweep_that_is_interrupted_and_loses_a_node_has_the_bytes_of_this_machine_and_no_trial_twice(
    cluster, nodes, monkeypatch
):
    keep, lost = trial_on_node.keep, []

    def keep_and_be_interrupted(*arguments):
        keep(*arguments)
        in_time(at_work)
        raise KeyboardInterrupt

    def keep_and_lose_a_node(*arguments):
        keep(*arguments)
        if not lost:
            in_time(lambda: lost or lost.extend(busy(nodes)[:1]))
            cluster.remove_node(lost[0], allow_graceful=False)

    monkeypatch.setattr(trial_on_node, "keep", keep_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all()
    in_time(lambda: not at_work())
    assert [status for _, status in recorded()] == ["FINISHED"]

    monkeypatch.setattr(trial_on_node, "keep", keep_and_lose_a_node)
    on_cluster = run_all()
    in_time(lambda: not at_work())
    assert lost
    names, statuses = zip(*recorded(), strict=True)
    assert {*names} == {"sweep · base", *(f"sweep · {RATE}={rate} · seed 0" for rate in RATES)}
    assert statuses == ("FINISHED",) * 6, "four trainings, the best on the test set, and the base"

    monkeypatch.delenv("RATCHET_RAY")
    monkeypatch.setenv("RATCHET_FORKSERVER", "0")  # as on a node: nothing else here needs one
    monkeypatch.setattr(trial_store, "FOLDER", Path(".ratchet/here"))
    shutil.rmtree(".ratchet/cache")  # nothing is taken over from the nodes
    here = run_all()
    assert any(files for _, files in here[0].values())
    assert on_cluster == here


def test_a_trial_that_fails_on_a_node_says_there_why(nodes, capsys, monkeypatch):
    folder = trial_store.write_folder(sweeps.plan(sweep(), {RATE: 0.5}, 0))
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
    assert ray._private.worker.global_worker.node is None, "it would stay connected in part"


def test_what_no_node_has_is_told_with_what_they_have(nodes, monkeypatch):
    params = Path("params.yaml")
    before = params.read_text()
    params.write_text(before + "resources: {tune: {cores: 64, memory_gb: 9000}}\n")
    try:
        with pytest.raises(RuntimeError, match=r"has 64 cores, 9000 GB of memory, which a task takes.*have: 1 cores"):
            sweeps.run(sweep(f"{RATE}=0.2,0.3"), "parent")
    finally:
        params.write_text(before)


MODEL = Path("models/pretrained")
DECODING = Decoding(max_new_tokens=12, batch_size=2)


class Interrupted(ScratchRun):
    """A run in which something happens once, after the first batch or pack."""

    def __init__(self, folder, happens):
        super().__init__(folder, "r1")
        self.happens = [happens]

    def track(self, items, **options):
        for place, item in enumerate(super().track(items, **options)):
            if place == 1 and self.happens and options["unit"] in ("batch", "pack"):
                self.happens.pop()()
            yield item


def answers(folder, number=2 * WORTH, happens=lambda: None):
    """What the model answers to so many prompts, the calls that are told, and what is kept of them. Something happens after the first batch."""
    run = Interrupted(folder, happens)
    prompts = [[Message("user", f"What is {n} and {'more ' * (n % 5)}?")] for n in range(number)]
    write = writer.of_model(MODEL, DECODING, Compute(threads=1), run)
    written = write(prompts, [f"key {n}" for n in range(number)])
    kept = {path.name: path.read_bytes() for path in run.cache.rglob("*") if path.is_file()}
    return [answer.text for answer in written], [call.answered for call in run.calls], kept


def test_a_model_answers_on_nodes_as_here_although_one_is_lost(cluster, nodes, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LocalModel, "loaded", property(lambda _: pytest.fail("it was answered here")))
        on_nodes = answers(tmp_path / "nodes", happens=lambda: cluster.remove_node(nodes[0], allow_graceful=False))
    monkeypatch.delenv("RATCHET_RAY")
    assert answers(tmp_path / "here") == on_nodes
    assert len(set(on_nodes[0])) > WORTH


def test_a_node_with_other_weights_is_named(nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(writer.checkpoints, "weights_digest", lambda _: "others")
    with pytest.raises(ValueError, match=r"has other weights at models/pretrained in .* than this machine\. Share"):
        answers(tmp_path)


def measured(folder, happens=lambda: None):
    """What `diagnose` and `evaluate` make with the model, in bytes, and the answers that are kept."""
    folder.mkdir()
    rows = [small.example(n, prompt=f"What is {n}, {'and ' * (n % 7)}what not?", response=f"{n}.") for n in range(40)]
    checked = [replace(row, tests=registry.tests(registry.parse("exact"), Row(row.id, row.response))) for row in rows]
    tables.write(folder / "examples.parquet", checked, Example)
    tables.write(folder / "documents.parquet", [], Document)
    inputs = dict.fromkeys(("base", "model", "tuned"), MODEL) | {"decisions": NOTHING_DECIDED, "embedder": folder}
    inputs |= dict.fromkeys(("examples", "test", "gate"), folder / "examples.parquet")
    inputs |= dict.fromkeys(("documents", "gate_documents"), folder / "documents.parquet")
    sections = {"compute": {"precision": "fp32", "threads": 1}, "methods": {"middo": {}, "plain": {}}}
    settings = {"max_new_tokens": 8, "batch_size": 2}
    run = Interrupted(folder, happens)
    made = {name: folder / name for name in ("signals", "probes", "diagnosis", "metrics", "results")}
    diagnose.main(inputs, made, DiagnoseConfig.model_validate(sections), run)
    evaluate.main(inputs, made, EvaluateConfig.model_validate(sections | {"evaluate": settings}), run)
    files = [*made.values(), *(run.cache / "answers").iterdir()]
    return {path.name: path.read_bytes() for path in files}


def test_a_model_is_measured_on_nodes_as_here_although_one_is_lost(cluster, nodes, tmp_path, monkeypatch):
    work, apply = [], Workers.apply

    def noted(self, function, *arguments, **options):
        work.append(getattr(function.args[2], "func", function.args[2]))
        return apply(self, function, *arguments, **options)

    for module in (scoring, readout):
        monkeypatch.setattr(module, "PACK_TOKENS", 1)  # of rows that are formed here
    monkeypatch.setattr(embedding, "pooled", partial(embedding.pooled, row_tokens=1))
    with monkeypatch.context() as patch:
        patch.setattr(Workers, "apply", noted)
        lose = partial(cluster.remove_node, nodes[0], allow_graceful=False)
        on_nodes = measured(tmp_path / "nodes", lose)
    assert work == [
        scoring.of_pack,
        scoring.of_pack,
        embedding.of_row,
        readout.of_row,
        scoring.of_pack,
        answer_cache.write,
    ]
    monkeypatch.delenv("RATCHET_RAY")
    assert measured(tmp_path / "here") == on_nodes
