"""A trial on a node works in a folder of its own: it brings back what it made, leaves the workspace as it was, and clears up after the killed."""

import json
import os
import subprocess
import tempfile

import pytest

from tasks import trial_on_node
from tasks.io import provenance
from tasks.io.system import files, ray_cluster, scratch
from tasks.trial_on_node import NodeTrial
from tests.flows.conftest import ROOT

REQUEST = {"title": "the base", "tags": {}, "facts": {"composition": "base"}, "base": "none", "keeps_model": False}
"""A trial that neither trains nor measures, which needs no torch."""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace with one input; temporary files are beside it."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "tasks").symlink_to(ROOT / "tasks")
    (folder / "rows").write_text("as it was")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


@pytest.fixture
def trial(workspace):
    request = json.dumps(REQUEST | {"stage": None, "trained": None, "test": False}).encode()
    params = (ROOT / "params/micro.yaml").read_bytes()
    reads = {"rows": provenance.digest(workspace / "rows")}
    return NodeTrial({"params.yaml": params, "trial.json": request}, "parent", reads)


def test_a_trial_brings_its_result_and_its_run_and_nothing_stays(workspace, trial, tmp_path):
    killed, in_use = tmp_path / "ratchet-trial-killed", tmp_path / "ratchet-trial-in-use"
    for folder in killed, in_use:
        folder.mkdir()
        (folder / "model").write_text("half of it")
    with files.locked(in_use / scratch.LOCK):
        ended = trial_on_node.run(trial)
    assert ended.code == 0, ended.said
    assert {name: json.loads(content) for name, content in ended.files.items()} == {"result.json": {}}
    (events,) = ([json.loads(line) for line in run.splitlines()] for run in ended.runs.values())
    assert (events[0]["name"], events[0]["parent"], events[-1]["status"]) == ("the base", "parent", "FINISHED")
    assert {path.name for path in tmp_path.iterdir()} == {"workspace", in_use.name}
    assert {path.name for path in workspace.iterdir()} == {"tasks", "rows"}


def test_a_trial_asks_no_cluster(trial, monkeypatch):
    environments = []

    def started(command, *, env, **_):
        environments.append(env)
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setenv("RATCHET_RAY", "10.0.0.1:6379")
    monkeypatch.setattr(subprocess, "run", started)
    trial_on_node.run(trial)
    monkeypatch.setattr(os, "environ", environments[0])
    assert ray_cluster.address() is None


@pytest.mark.parametrize("change", [lambda path: path.write_text("another"), lambda path: path.unlink()])
def test_an_input_that_is_another_on_the_node_is_named(workspace, trial, change):
    change(workspace / "rows")
    with pytest.raises(ValueError, match=r"has other contents at rows in .*workspace than this machine. Share the"):
        trial_on_node.run(trial)


def test_a_result_is_written_last(workspace, monkeypatch):
    written = []
    monkeypatch.setattr(trial_on_node.files, "write_atomically", lambda path, _content: written.append(path.name))
    files = {"result.json": b"", "model/weights": b"", "zero": b""}
    trial_on_node.keep(trial_on_node.Ended(0, "", files, {}), workspace, "result.json")
    assert written == ["weights", "zero", "result.json"]
