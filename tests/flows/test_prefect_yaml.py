"""`prefect deploy` offers what `ratchet up` serves, and a worker of a process pool runs it in the workspace."""

import json
import shutil
import urllib.request

import pytest
import yaml

from flows import deployments
from flows.execution import ports, prefect_server, supervisor
from tests.flows.conftest import ROOT

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def test_the_file_has_the_deployments_that_are_served(done):
    with done.path("params.yaml").open("a") as config:
        config.write("monitor: {incoming: data/incoming}\n")
    served = {f"{one.flow_name}/{one.name}": one for one in deployments.all_deployments()}
    named = {f"{one['entrypoint'].split('.')[-1]}/{one['name']}": one for one in DEPLOYMENTS}
    assert named.keys() == served.keys()
    for name, one in served.items():
        given = named[name]
        assert given["entrypoint"] == one.entrypoint
        assert given["description"] == one.description
        assert prefect_server.TAG in given["tags"]
        crons = [{"cron": at.schedule.cron, "timezone": at.schedule.timezone} for at in one.schedules or ()]
        assert given.get("schedules", []) == crons
        triggers = [(at.name, sorted(at.expect), at.parameters) for at in one.triggers or ()]
        assert [(at["name"], at["expect"], at["parameters"]) for at in given.get("triggers", [])] == triggers


@pytest.fixture
def api(workspace, empty_prefect, monkeypatch):
    """A server that this workspace's settings name, and that no `ratchet up` serves."""
    monkeypatch.setenv("PREFECT_HOME", str(shutil.copytree(empty_prefect, workspace.folder / "server")))
    process, url = prefect_server.start(ports.free_port(), ui=False)
    yield url
    supervisor.stop([process])


def test_a_process_pool_runs_a_deployment_in_the_workspace(workspace, api, finished):
    shutil.copyfile(ROOT / "prefect.yaml", workspace.path("prefect.yaml"))

    def prefect(*command):
        done = workspace.run("prefect", *command, PREFECT_API_URL=api, PWD=str(workspace.folder))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prefect("work-pool", "create", "ratchet", "--type", "process")
    prefect("--no-prompt", "deploy", "--all")
    prefect("deployment", "run", "pipeline/workstation")
    prefect("worker", "start", "--pool", "ratchet", "--run-once")
    request = urllib.request.Request(
        f"{api}/flow_runs/filter",
        json.dumps({"flows": {"name": {"any_": ["pipeline"]}}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (run,) = json.load(answer)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert workspace.lock == (finished / "dvc.lock").read_bytes()
    assert list(workspace.home.iterdir()) == []
