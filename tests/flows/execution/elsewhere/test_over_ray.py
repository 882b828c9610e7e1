"""The command of a stage as one task of a Ray cluster: the outputs and the lock of this machine, and nothing left when anybody goes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from flows.execution.elsewhere import hosts, job, over_ray
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.job import Job
from tests import ray_nodes
from tests.flows.conftest import ROOT, processes, wait_for
from tests.flows.execution.elsewhere.conftest import of_git

SMALL, LARGE, ANOTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
"""The addresses of the three nodes."""


@pytest.fixture(scope="module")
def cluster():
    with ray_nodes.cluster() as started:
        yield started


@pytest.fixture
def nodes(cluster):
    """The three nodes."""
    return ray_nodes.with_nodes_at(cluster, {SMALL: 1, LARGE: 2, ANOTHER: 1})


@pytest.fixture
def entry(cluster, nodes, tmp_path, monkeypatch):
    """A function that writes the hosts file, in which the cluster is a host; it is written already."""
    monkeypatch.setenv("RATCHET_HOSTS", str(tmp_path / "hosts.yaml"))

    def write(**changes):
        job.check.cache_clear()
        host = {"ray": cluster.address, "folder": str(tmp_path / "there")} | changes
        (tmp_path / "hosts.yaml").write_text(yaml.safe_dump({"hosts": {"nodes": host}}))

    write()
    return write


@pytest.fixture
def folder(entry, tmp_path, monkeypatch) -> Path:
    """A workspace with settings; this process is in it."""
    made = of_git(tmp_path / "workspace")
    shutil.copyfile(ROOT / "params/micro.yaml", made / "params.yaml")
    (made / "dvc.yaml").write_text("stages: {one: {cmd: none}}\n")
    monkeypatch.chdir(made)
    return made


def takes(**resources):
    """Have the stage take this of a node."""
    with Path("params.yaml").open("a") as file:
        file.write(f"\nresources: {{one: {resources}}}\n")


def ran(*commands):
    """The exit code, and what was said."""
    said = []
    work = Job("one", commands, ["data/seen.txt"], ["out.txt"], ["out.txt"])
    return job.run("nodes", work, said.append), "\n".join(said)


def test_stages_there_leave_the_lock_of_stages_here(workspace, finished, entry):
    on = {"RATCHET_ON": "nodes", "RATCHET_HOSTS": os.environ["RATCHET_HOSTS"]}
    done = workspace.run("flows.execution.dvc", "repro", "two", **on)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on nodes: node 127.0.0." in done.stdout
    ours, theirs = (yaml.safe_load(path.read_text())["stages"] for path in (Path("dvc.lock"), finished / "dvc.lock"))
    assert ours == {name: theirs[name] for name in ("one", "two")}
    assert Path("two/sorted.txt").read_text() == "a\nb\n"


def test_a_stage_takes_its_resources_of_a_node_and_is_told_where_no_node_has_them(folder):
    takes(cores=2)
    code, said = ran("./tool > out.txt")
    assert (code, Path("out.txt").read_text()) == (0, "a\nb\n")
    assert f"on nodes: node {LARGE}" in said
    shutil.copyfile(ROOT / "params/micro.yaml", "params.yaml")
    code, said = ran("./tool > out.txt")  # either would do, and the one that had it last is asked
    assert f"on nodes: node {LARGE}" in said
    assert "of which 1 " in said, "params.yaml alone is another"
    takes(cores=64)
    for look in (lambda: ran("./tool > out.txt"), lambda: job.check("nodes", "one")):
        with pytest.raises(Unreachable, match=r"has 64 cores.*have: .*1 cores.*leave `host: nodes` out of `resources`"):
            look()


@pytest.mark.parametrize("victim", ["worker", "node", "far side", "owner"])
def test_whoever_is_killed_nothing_is_left_there_and_the_next_run_goes_on_from_what_lies_there(
    cluster, nodes, folder, victim
):
    mark = f"sleep 43.{os.getpid()}{len(victim)}"
    command = (
        f"if [ -e .ratchet/half ]; then cp in.txt out.txt; else mkdir -p .ratchet; touch .ratchet/half; {mark}; fi"
    )
    program, errors = folder.parent / "owner.py", folder.parent / "errors.txt"  # the mark is in no command line here
    program.write_text(
        "from flows.execution.elsewhere import job\nfrom tasks.io.system import process\n"
        f"process.run(lambda: job.run('nodes', job.Job('one', [{command!r}], ['data/seen.txt'], ['out.txt'], []), print))"
    )
    with errors.open("w") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        owner = subprocess.Popen([sys.executable, program], env=environment, stdout=out, stderr=out)
    wait_for(lambda: mark in processes(mark), errors.read_text)
    (sleeper,) = (one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == mark.split())
    far_side = next(one for one in sleeper.parents() if str(folder.parent / "there") in one.cmdline())
    pids = {"worker": far_side.ppid(), "far side": far_side.pid, "owner": owner.pid}
    if victim == "node":
        above = {one.pid for one in sleeper.parents()}
        lost = next(node for node in nodes if node.all_processes["raylet"][0].process.pid in above)
        cluster.remove_node(lost, allow_graceful=False)
    else:
        os.kill(pids[victim], signal.SIGKILL)
    owner.wait(60)
    there = str(folder.parent / "there")
    wait_for(lambda: not processes(mark) and not processes(there), lambda: str(processes(there)))
    if victim != "owner":
        *_, last = errors.read_text().splitlines()
        assert last.startswith("nodes: the connection ended")
        assert last.endswith("unfinished work stays there: run it again, and it continues.")
        assert victim != "worker" or "(The worker died unexpectedly while executing this task)" in last
    assert ran(command)[0] == 0
    assert Path("out.txt").read_text() == "b\na\n"


def test_whoever_connects_without_the_token_is_sent_away_and_one_with_it_is_the_last():
    token, heard = "a" * 64, []
    server = over_ray._listening("127.0.0.1")
    place = server.getsockname()

    def intrude():
        with suppress(OSError):  # a stranger who was let in has closed the door: the asserts below say so
            for shown in (b"b" * 64, b"a" * 63, b""):
                with socket.create_connection(place) as stranger:
                    stranger.sendall(shown)
                    stranger.shutdown(socket.SHUT_WR)
                    heard.append(stranger.recv(1))
            with socket.create_connection(place) as task:
                task.sendall(token.encode() + b"what follows")

    others = threading.Thread(target=intrude, daemon=True)
    others.start()
    with over_ray._accepted(
        server, token, None, None
    ) as connection:  # neither is asked, where somebody connects at once
        assert connection.recv(99) == b"what follows"
    others.join()
    assert heard == [b""] * 3
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)


@pytest.mark.parametrize("outcome", [None, (-9, b"")], ids=["task not over", "task killed"])
def test_a_connection_that_ends_before_a_look_at_the_lost_cluster_is_told_with_its_reason(outcome):
    class Lost:
        def check(self):
            raise RuntimeError("The Ray cluster is lost.")

        def is_over(self, within_s=0.0):
            return outcome is not None

        def result(self):
            return outcome

    ours, theirs = socket.socketpair()
    theirs.sendall(b"127.0.0.1\n")
    theirs.close()
    assert over_ray.RayNode(hosts.Host(ray="auto"), ours, Lost()).end()[1] == "The Ray cluster is lost"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"ray": "127.0.0.1:9"},
            r"No Ray cluster answers at .*correct `ray` of nodes in .*hosts\.yaml, or leave `host",
        ),
        ({"folder": "/proc/none"}, r"the far side did not start .*/proc/none"),
        ({"options": ["-v"]}, r"`ray` names a cluster, and options are about SSH"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_message(entry, folder, changes, problem):
    entry(**changes)
    with pytest.raises((Unreachable, ValueError), match=problem):
        job.check("nodes", "one")


def test_a_look_takes_nothing_and_tells_what_a_node_has(folder):
    assert job.check("nodes", "one").free > 0
    assert not over_ray.NODES.exists()
    assert hosts.known()["nodes"].ssh == ""
