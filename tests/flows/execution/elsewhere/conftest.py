"""Machines that are reached by SSH: a private sshd with its own keys and port, on the loopback or in a network namespace."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flows.execution.ports import free_port
from tests.flows.conftest import wait_for

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
SEPARATION = Path("/run/sshd")
"""The folder to which an sshd of root confines its process before login (privilege separation)."""
CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
"""


def of_git(folder: Path) -> Path:
    """Create a workspace with git only."""
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("/data/\n/.ratchet/\n")
    (folder / "in.txt").write_text("b\na\n")
    (folder / "tool").write_text("#!/bin/sh\nsort in.txt\n")
    (folder / "tool").chmod(0o755)
    (folder / "data").mkdir()
    (folder / "data/seen.txt").write_text("dependency")
    (folder / "data/hidden.txt").write_text("git ignores it")
    return folder


@dataclass
class Box:
    """A host of the hosts file, with methods by which tests change it."""

    folder: Path
    """The folder of the workspace on the host."""
    hosts: Path
    entry: dict[str, object]

    def write(self, **changes: object) -> None:
        self.hosts.write_text(yaml.safe_dump({"hosts": {"gpu-box": self.entry | changes}}))

    def checkout(self, stage: str) -> Path:
        (folder,) = self.folder.glob(f"workspace-*/{stage}")
        return folder


@contextmanager
def sshd_at(folder: Path, address: str, within: Sequence[str] = ()) -> Iterator[list[str]]:
    """Run a daemon, and yield the arguments with which `ssh` reaches it. `within` is a prefix of its command line, such as `ip netns exec NAME`."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here (Debian's package `openssh-server`)")
    if os.geteuid() == 0 and not SEPARATION.is_dir():
        SEPARATION.mkdir(mode=0o755)  # the system's own service does the same when it starts
    port = free_port()
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "config").write_text(CONFIG.format(folder=folder, address=address, port=port))
    public = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[{address}]:{port} {public}\n")
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen([*within, SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0

    try:
        wait_for(answers, (folder / "log").read_text)
        known = ["-o", f"UserKnownHostsFile={folder}/known", "-o", "StrictHostKeyChecking=yes"]
        yield ["-F", "none", "-p", str(port), "-i", str(folder / "key"), "-o", "IdentitiesOnly=yes", *known]
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.fixture(scope="session")
def sshd(tmp_path_factory) -> Iterator[list[str]]:
    """The arguments with which `ssh` reaches a daemon that runs for all tests."""
    with sshd_at(tmp_path_factory.mktemp("sshd"), "127.0.0.1") as options:
        yield options


@pytest.fixture
def box(sshd, tmp_path, monkeypatch) -> Box:
    """The host `gpu-box` of a hosts file that an environment variable names."""
    entry = {
        "ssh": f"{getpass.getuser()}@127.0.0.1", "folder": str(tmp_path / "there"), "python": sys.executable, "options": sshd
    }  # fmt: skip
    made = Box(tmp_path / "there", tmp_path / "hosts.yaml", entry)
    made.write()
    monkeypatch.setenv("RATCHET_HOSTS", str(made.hosts))
    return made
