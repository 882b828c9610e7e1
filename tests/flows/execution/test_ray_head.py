"""The Ray cluster of `ratchet up --ray`: it listens on the loopback, answers, and leaves nothing."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import psutil
import pytest
import yaml

from flows.execution import ray_head, supervisor, workspace
from tests.flows.conftest import ROOT, processes, wait_for
from tests.flows.execution.elsewhere.conftest import of_git


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_head, "LOG", tmp_path / workspace.LOGS / "ray.log")
    return tmp_path


def lives(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


ASK = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print(ray.get(ray.remote(lambda: 6 * 7).remote()), int(ray.cluster_resources()["CPU"]))
"""


def test_it_answers_on_the_loopback_and_leaves_nothing(folder, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with tempfile.TemporaryDirectory() as short:  # sockets of Ray have short paths
        monkeypatch.setenv("RAY_TMPDIR", short)
        monkeypatch.setenv("RATCHET_CORES", "1")
        before = set(supervisor.descendants(os.getpid()))  # servers that other tests of this process keep
        with ray_head.running() as address:
            below = [psutil.Process(pid) for pid in set(supervisor.descendants(os.getpid())) - before]
            command = [sys.executable, "-c", ASK, address]
            clients = os.environ | ray_head.variables(address)
            said = subprocess.run(command, capture_output=True, text=True, check=False, env=clients, timeout=120)
            assert said.stdout.split() == ["42", "1"], said.stderr
            listening = {
                connection.laddr.ip
                for process in below
                if process.is_running()
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
            assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, listening
        wait_for(lambda: not any(map(lives, below)), lambda: str(below))


def test_a_start_that_fails_is_one_message(folder, monkeypatch):
    command = [sys.executable, "-c", "import sys; sys.exit('no room for the object store')"]
    monkeypatch.setattr(ray_head, "find_spec", lambda name: True)
    monkeypatch.setattr(ray_head, "_command", lambda port, machine: command)
    with (
        pytest.raises(
            RuntimeError, match=r"Ray did not start \(no room for the object store\). Its output is in .*ray\.log"
        ),
        ray_head.running(),
    ):
        raise AssertionError("it does not run")
    monkeypatch.setattr(ray_head, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="needs the extra `ray`"), ray_head.running():
        raise AssertionError("it is not installed")


def test_another_port_is_taken_where_rays_own_is(monkeypatch):
    with socket.create_server((ray_head.HOST, 0)) as taken:
        monkeypatch.setattr(ray_head, "PORT", taken.getsockname()[1])
        assert ray_head._port() not in (0, ray_head.PORT)
    assert ray_head._port() == ray_head.PORT


OWNER = """
import sys
from flows.execution.elsewhere import job
from tasks.io.system import process
done = job.Job("one", ["sleep 47.11"], ["data/seen.txt"], ["out.txt"], [])
sys.exit(process.run(lambda: job.run("nodes", done, print)))
"""


def test_a_stage_whose_cluster_loses_its_head_ends_with_a_sentence_and_leaves_nothing(folder, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    made = of_git(folder / "workspace")
    shutil.copyfile(ROOT / "params/micro.yaml", made / "params.yaml")
    (made / "dvc.yaml").write_text("stages: {one: {cmd: none}}\n")
    monkeypatch.setenv("RATCHET_HOSTS", str(folder / "hosts.yaml"))
    monkeypatch.chdir(made)
    with tempfile.TemporaryDirectory() as short, (folder / "said.txt").open("w") as said:
        monkeypatch.setenv("RAY_TMPDIR", short)
        with ray_head.running() as address:
            host = {"ray": address, "folder": str(folder / "there")}
            (folder / "hosts.yaml").write_text(yaml.safe_dump({"hosts": {"nodes": host}}))
            variables = os.environ | ray_head.variables(address) | {"PYTHONPATH": str(ROOT)}
            (folder / "owner.py").write_text(OWNER)  # the mark is in no command line but the sleeper's
            owner = subprocess.Popen([sys.executable, folder / "owner.py"], env=variables, stdout=said, stderr=said)
            wait_for(lambda: processes("sleep 47.11"), (folder / "said.txt").read_text)
            (head,) = (
                one
                for one in psutil.process_iter(["name", "cmdline"])
                if one.name() == "gcs_server" and short in str(one.cmdline())
            )
            head.kill()
            owner.wait(120)
        wait_for(lambda: not processes("sleep 47.11"), lambda: str(processes("sleep 47.11")))
    *_, last = (folder / "said.txt").read_text().splitlines()
    assert re.match(r"nodes: the connection ended \((The Ray cluster .* is lost|Task failed because the node)", last), (
        last
    )
    assert last.endswith("unfinished work stays there: run it again, and it continues.")
