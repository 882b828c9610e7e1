"""A training on another machine that dies in the middle goes on there from its checkpoint, and makes the bytes of this machine."""

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys

import psutil
import yaml

from tests.flows.conftest import wait_for
from tests.flows.execution.elsewhere.conftest import sshd_at

HERE = ["flows.execution.dvc", "repro", "--single-item", "tune@r0"]


def training_in(folder):
    """The process that trains in a folder, if there is one."""
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if (process.info["cmdline"] or [])[1:4] == ["-m", "tasks.run", "tune"] and process.cwd() == str(folder):
                return process
    return None


def test_a_training_that_is_killed_there_goes_on_from_its_checkpoint_to_the_bytes_of_this_machine(workspace, tmp_path):
    copy = workspace("micro")
    copy.set("max_tokens: 2000", "max_tokens: 60000")
    copy.run("dvc", "repro", "--quiet", "faults@r0", "pretrain")
    there = tmp_path / "there"
    with sshd_at(tmp_path, "127.0.0.1") as options:
        host = {
            "ssh": f"{getpass.getuser()}@127.0.0.1",
            "folder": str(there),
            "python": sys.executable,
            "options": options,
        }
        (tmp_path / "hosts.yaml").write_text(yaml.safe_dump({"hosts": {"gpu-box": host}}))
        variables = copy.environment | {"RATCHET_HOSTS": str(tmp_path / "hosts.yaml"), "RATCHET_ON": "gpu-box"}

        def start(log):
            command = [sys.executable, "-m", *HERE]
            with log.open("w") as out:
                return subprocess.Popen(command, cwd=copy.folder, env=variables, stdout=out, stderr=out)

        first = start(tmp_path / "first.log")
        wait_for(
            lambda: list(there.glob("*/tune@r0/.ratchet/**/checkpoint-*/complete")), (tmp_path / "first.log").read_text
        )
        (folder,) = there.glob("*/tune@r0")
        os.kill(training_in(folder).pid, signal.SIGKILL)
        assert first.wait(120)
        assert not (copy.folder / "models/tuned/r0").exists()
        again = start(tmp_path / "again.log")
        assert again.wait(300) == 0, (tmp_path / "again.log").read_text()
    assert "an interrupted training goes on from step" in (tmp_path / "again.log").read_text()
    made = {path.name: path.read_bytes() for path in (copy.folder / "models/tuned/r0").iterdir()}
    shutil.rmtree(copy.folder / ".ratchet/made", ignore_errors=True)  # nothing here is taken over
    copy.run("tasks.run", "tune", "r0")
    assert {path.name: path.read_bytes() for path in (copy.folder / "models/tuned/r0").iterdir()} == made
