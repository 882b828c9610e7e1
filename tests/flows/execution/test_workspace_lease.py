"""One flow at a time, and none beside a `dvc repro` that a person started."""

import json
import os
import subprocess
import sys
import threading

import pytest

from flows.execution import workspace_lease
from flows.execution.dvc import repair, rwlock
from tests.flows.conftest import wait_for


@pytest.fixture
def table(tmp_path):
    """The place of DVC's table in this folder."""
    path = tmp_path / rwlock.PATH
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def dvc():
    """A process that runs until the test ends, in place of DVC."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def claimed(table, process, command):
    owner = {"pid": process.pid, "cmd": command}
    table.write_text(json.dumps({"write": {"/one.txt": owner}, "read": {"/in.txt": [owner]}}))


def test_a_second_flow_is_refused_with_the_number_of_the_first(tmp_path):
    program = "from flows.execution import workspace_lease; import time\nwith workspace_lease.acquired(): print(1, flush=True); time.sleep(60)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as first:
        assert first.stdout
        first.stdout.readline()
        with pytest.raises(RuntimeError, match=f"process {first.pid}"), workspace_lease.acquired():
            pass
        assert {path.stem: owner.pid for path, owner in workspace_lease.held().items()} == {"flow": str(first.pid)}
        first.kill()
    with workspace_lease.acquired():
        pass


def test_a_flow_is_refused_beside_a_dvc_that_a_person_started(table, dvc):
    claimed(table, dvc, "/usr/bin/dvc repro")
    refusal = rf"^DVC \(process {dvc.pid}: /usr/bin/dvc repro\) works in this workspace\. .*: kill {dvc.pid}$"
    with pytest.raises(RuntimeError, match=refusal), workspace_lease.acquired():
        pass
    assert not workspace_lease.held()
    with workspace_lease.acquired(workspace_lease.SERVER):  # it starts no stage itself
        pass


def test_a_flow_is_not_refused_for_the_dvc_of_a_killed_flow(table, dvc):
    claimed(table, dvc, "/here/flows/execution/dvc/__main__.py --wait-for-lock repro --single-item one")
    with workspace_lease.acquired():
        assert "flow" in {path.stem for path in workspace_lease.held()}


def test_a_deployment_waits_for_the_dvc_that_a_person_started(table, dvc, capsys):
    claimed(table, dvc, "dvc repro")
    begun = threading.Event()

    def flow():
        with workspace_lease.acquired(wait=True):
            begun.set()

    thread = threading.Thread(target=flow)
    thread.start()
    wait_for(lambda: "works in this workspace" in capsys.readouterr().out)
    assert not begun.is_set()
    dvc.kill()
    dvc.wait()
    thread.join(30)
    assert begun.is_set()


def test_while_another_machine_holds_a_lock_no_process_counts_as_dead(table, tmp_path):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    table.write_text(json.dumps({"write": {"/a": {"pid": ended.pid, "cmd": "dvc repro"}}}))
    claim = tmp_path / ".ratchet/locks/flow.lock"
    claim.parent.mkdir(parents=True)
    claim.write_text("77 elsewhere some-other-kernel")
    assert not repair.damages()
    claim.write_text("")
    assert repair.damages() == [f"a dead process ({ended.pid}) owns paths in DVC's table"]
