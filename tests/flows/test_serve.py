"""A deployment run leaves what any other driver leaves."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import server
from tests.flows.conftest import ROOT, Workspace


@pytest.fixture(scope="module")
def up(prefect, tmp_path_factory) -> Path:
    """The workspace where `ratchet up` runs."""
    (folder,) = tmp_path_factory.getbasetemp().glob("up*/workspace")
    return folder


def prefect_cli(folder, *arguments):
    """Plain `prefect`, with nothing but what stands in the workspace to find the server."""
    environment = Workspace.environment.fget(type("Person", (), {"home": folder.parent / "workspace-home"}))
    environment.pop("PYTHONPATH")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_deployment_run_leaves_the_lock_of_a_plain_repro(up, finished):
    said = prefect_cli(up, "deployment", "run", "pipeline/workstation", "--watch")
    assert "finished successfully" in said, said
    assert (up / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()
    assert "prefect.artifact.created" in said
    assert list((up.parent / "workspace-home").iterdir()) == []


def test_a_second_one_is_refused_with_the_number_of_the_first(up):
    refused = subprocess.run(
        [sys.executable, "-m", "flows.commands", "up"],
        cwd=up, env=Workspace.environment.fget(type("Person", (), {"home": up})), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "another `ratchet up` (process " in refused.stderr


def test_a_busy_port_is_told_with_who_has_it(workspace, prefect):
    port = prefect.split(":")[2].split("/")[0]
    refused = workspace.run("flows.commands", "up", PREFECT_SERVER_API_PORT=port)
    assert refused.returncode == 1
    assert f"port {port} is taken by process" in refused.stderr
    assert "PREFECT_SERVER_API_PORT=4300" in refused.stderr


def test_a_free_port_has_no_listener():
    assert server.listener(server.free_port()) is None
    assert ROOT.is_dir()
