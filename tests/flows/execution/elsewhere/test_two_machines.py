"""Stages on two machines, each an sshd in a network namespace that one cable joins to this one."""

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flows.execution.ports import free_ports
from tests.flows.conftest import ROOT, processes, wait_for
from tests.flows.execution.elsewhere.conftest import of_git, sshd_at

IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin")
QUICK = ["-o", "ConnectTimeout=2", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"]
"""A cable that was pulled is noticed in seconds."""


@dataclass
class Machine:
    """A network namespace, and the cable to it."""

    name: str
    number: int

    @property
    def cable(self) -> str:
        return f"rt{os.getpid() % 100_000}-{self.number}"

    @property
    def addresses(self) -> tuple[str, str]:
        """Ours and its own: a network of these two."""
        return tuple(f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}.{4 * self.number + end}" for end in (1, 2))

    def within(self, *command: str) -> list[str]:
        return [str(IP), "netns", "exec", self.name, *command]

    def connect(self) -> None:
        here, there = self.addresses
        for words in (
            f"netns add {self.name}",
            f"link add {self.cable} type veth peer name eth0 netns {self.name}",
            f"addr add {here}/30 dev {self.cable}",
            f"link set {self.cable} up",
            f"-n {self.name} addr add {there}/30 dev eth0",
            f"-n {self.name} link set eth0 up",
            f"-n {self.name} link set lo up",  # a machine reaches itself by it, at its address too
        ):
            ip(words)

    def plug(self, state: str) -> None:
        """Put the cable in (`up`), or pull it (`down`)."""
        ip(f"link set {self.cable} {state}")


def ip(words: str) -> None:
    done = subprocess.run([str(IP), *words.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {words}: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[dict[str, Machine]]:
    """Two machines by their names in the hosts file, which the environment names."""
    if IP is None:
        pytest.skip("no `ip` here (Debian's package `iproute2`)")
    folder = tmp_path_factory.mktemp("machines")
    made = {f"box-{number}": Machine(f"ratchet-{os.getpid()}-{number}", number) for number in range(2)}
    with ExitStack() as stack:
        entries = {}
        for name, machine in made.items():
            try:
                stack.callback(subprocess.run, [IP, "netns", "delete", machine.name], stderr=subprocess.DEVNULL)
                machine.connect()
            except OSError as error:
                pytest.skip(f"no network namespaces here: {error}")
            (folder / name).mkdir()
            _, address = machine.addresses
            options = stack.enter_context(sshd_at(folder / name, address, machine.within()))
            entries[name] = {
                "ssh": f"{getpass.getuser()}@{address}", "folder": str(folder / name / "there"), "python": sys.executable,
                "options": [*options, *QUICK],
            }  # fmt: skip
        (folder / "hosts.yaml").write_text(yaml.safe_dump({"hosts": entries}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RATCHET_HOSTS", str(folder / "hosts.yaml"))
            yield made


def folders(stage: str) -> set[str]:
    """The machines on which a stage has a folder."""
    base = Path(os.environ["RATCHET_HOSTS"]).parent
    return {path.relative_to(base).parts[0] for path in base.glob(f"*/there/workspace-*/{stage}")}


def test_two_machines_see_only_us(machines):
    (here, _), (_, other) = (machine.addresses for machine in machines.values())
    for address, answers in ((here, True), (other, False)):
        command = f"import socket; socket.create_connection(({address!r}, 9), 2)"
        done = subprocess.run(
            machines["box-0"].within(sys.executable, "-c", command), capture_output=True, text=True, check=False
        )
        assert ("Connection refused" in done.stderr) is answers, done.stderr  # it is there, and has no such server
        assert ("Network is unreachable" in done.stderr) is not answers


def test_stages_on_two_machines_leave_the_lock_of_stages_here(workspace, finished, prefect, machines):
    hosts = {"one": "box-0", "two": "box-1", "side": "box-1", "last": "box-0"}
    resources = yaml.safe_dump({"resources": {stage: {"host": host} for stage, host in hosts.items()}})
    workspace.path("params.yaml").write_text(f"{workspace.path('params.yaml').read_text()}\n{resources}")
    said = workspace.ratchet("run", PREFECT_API_URL=prefect, RATCHET_HOSTS=os.environ["RATCHET_HOSTS"])
    assert "Done: 4 ran." in said
    assert workspace.lock == (finished / "dvc.lock").read_bytes()
    for stage, host in hosts.items():
        assert f"{stage}: on {host}: it has not run yet" in said
        assert folders(stage) == {host}


OWNER = """
import sys
from flows.execution.elsewhere import boot, connection, frames, job
modules = boot.modules
boot.modules = lambda: modules().replace(b"SILENCE_S = 60.0", b"SILENCE_S = 3.00")
frames.BEAT_S = 0.5
sys.exit(job.run("box-0", job.Job("one", [sys.argv[1]], ["data/seen.txt"], ["out.txt"], []), print))
"""


def test_a_cable_that_is_pulled_ends_the_stage_on_both_sides_and_the_next_run_goes_on(machines, tmp_path, monkeypatch):
    workspace, mark = of_git(tmp_path / "workspace"), f"sleep 46.{os.getpid()}"
    monkeypatch.chdir(workspace)
    (workspace / "half.sh").write_text(
        f"if [ -e .ratchet/half ]; then cp in.txt out.txt; else mkdir -p .ratchet; touch .ratchet/half; {mark}; fi"
    )
    command = [sys.executable, "-c", OWNER, "sh half.sh"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "said.txt").open("w") as said:
        owner = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
    wait_for(lambda: processes(mark), (tmp_path / "said.txt").read_text)
    machines["box-0"].plug("down")
    try:
        assert owner.wait(60) != 0
        wait_for(lambda: not processes(mark), lambda: str(processes(mark)))
        away = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    finally:
        machines["box-0"].plug("up")
    assert "box-0: the connection ended" in (tmp_path / "said.txt").read_text()
    assert "unfinished work stays there: run it again" in (tmp_path / "said.txt").read_text()
    assert away.stderr.splitlines()[-1].count("box-0: ") == 1
    again = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert (again.returncode, (workspace / "out.txt").read_text()) == (0, "b\na\n"), again.stderr


@pytest.fixture
def cluster(machines, tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a Ray cluster whose head is here and does no work, and whose other node is at the end of a cable."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    here, there = machines["box-0"].addresses
    port, agent = free_ports(2)
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)  # this cluster leaves the loopback
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--object-store-memory=80000000"]
    head = ["--head", f"--node-ip-address={here}", f"--port={port}", f"--dashboard-agent-listen-port={agent}"]
    node = [f"--address={here}:{port}", f"--node-ip-address={there}", "--num-cpus=1"]
    commands = {
        "head": [*start, *head, "--num-cpus=0", "--include-dashboard=false"],
        "node": machines["box-0"].within(*start, *node),
    }
    with ExitStack() as stack:
        for name, command in commands.items():
            place, log = stack.enter_context(tempfile.TemporaryDirectory()), tmp_path / f"{name}.txt"
            said = stack.enter_context(log.open("w"))
            variables = os.environ | {"RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0"}  # sockets want a short path
            process = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
            wait_for(lambda: process.poll() or "Ray runtime started" in log.read_text(), log.read_text, 300)  # noqa: B023
            assert process.poll() is None, log.read_text()
        yield f"{here}:{port}"


def test_a_stage_on_a_ray_cluster_of_two_machines_makes_the_bytes_of_this_one(cluster, machines, tmp_path, monkeypatch):
    _, there = machines["box-0"].addresses
    hosts = {"hosts": {"nodes": {"ray": cluster, "folder": str(tmp_path / "there")}}}
    (tmp_path / "hosts.yaml").write_text(yaml.safe_dump(hosts))
    monkeypatch.setenv("RATCHET_HOSTS", str(tmp_path / "hosts.yaml"))
    workspace = of_git(tmp_path / "workspace")
    shutil.copyfile(ROOT / "params/micro.yaml", workspace / "params.yaml")
    (workspace / "dvc.yaml").write_text("stages: {one: {cmd: none}}\n")
    program = """
from flows.execution.elsewhere import job
raise SystemExit(job.run("nodes", job.Job("one", ["./tool > out.txt"], ["data/seen.txt"], ["out.txt"], ["out.txt"]), print))
"""
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=workspace, env=variables, capture_output=True, text=True)
    assert (done.returncode, (workspace / "out.txt").read_text()) == (0, "a\nb\n"), done.stderr
    assert f"on nodes: node {there}" in done.stdout
