"""A workspace in which stages run in their own processes, with a body that the test supplies."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60
SLEEP = "while True: time.sleep(0.1)"
"""A body that never ends. It sleeps many times, because a signal that arrives just before one long sleep is lost (measured: one of two thousand):
Python checks for signals only between two bytecode instructions.
"""

# The runner in its own process, with a stage whose body is `body`, which can hang, fail or fill the disk.
DRIVER = """
import errno, os, signal, sys, time
import tasks.stages.{stage}.stage as stage
from tasks import runner
from tasks.io.runs import spool_uploader
{uploader}

def main(inputs, outputs, settings, run):
    for path in outputs.values():
        path.mkdir()
        (path / "half").write_text("half")
    run.log(1, loss=2.5)
    run.note(fact=7)
    run.say("started")
    {body}

stage.main = main
sys.exit(runner.main({arguments}))
"""


class Workspace:
    """A folder with params.yaml and an MLflow store, in which stages run in their own processes."""

    mlflow = False
    """True if runs are uploaded to MLflow, whose import alone takes seconds; False if they stay in the spool."""

    def __init__(self, folder: Path, store: Path) -> None:
        """Create the workspace in an empty folder, with a copy of the empty store."""
        self.folder = folder
        shutil.copyfile(store, folder / "mlflow.db")
        shipped = yaml.safe_load((ROOT / "params/workstation.yaml").read_text())
        shipped |= {
            "compute": {"threads": 1},
            "fetch": {"model": {"from": "config"}},
            "rounds": {"r0": {}},
            "turns": {},
        }
        (folder / "params.yaml").write_text(yaml.safe_dump(shipped))
        self.env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.env.pop("MLFLOW_TRACKING_URI")
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End the processes that a failed test left running, because the next test would fail by them."""
        for process in self._started:
            with process:
                process.kill()

    def stage(self, *arguments: str) -> tuple[int, str, str]:
        """Run `python -m tasks.run …` and return its exit code, stdout and stderr."""
        return self._end(self.start(sys.executable, "-m", "tasks.run", *arguments))

    def driver(self, body: str = "", stage: str = "fetch", arguments: tuple[str, ...] = ("fetch",)) -> str:
        """Write a script that runs a stage with this body, and return its path."""
        path = self.folder / f"driver-{len(list(self.folder.iterdir()))}.py"
        uploader = "" if self.mlflow else "spool_uploader.start = lambda: None"
        path.write_text(DRIVER.format(body=body, stage=stage, arguments=list(arguments), uploader=uploader))
        return str(path)

    def drive(self, body: str = "", **options: object) -> tuple[int, str, str]:
        return self._end(self.start(sys.executable, self.driver(body, **options)))

    def hang(self) -> subprocess.Popen[str]:
        """Start a stage that begins to write and does not end by itself."""
        process = self.start(sys.executable, self.driver(SLEEP))
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    def _end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        out, err = process.communicate(timeout=WAIT_S)
        return process.returncode, out, err

    @property
    def runs(self) -> list:
        """Return the runs in the store, newest first, after all uploads have ended."""
        from mlflow import MlflowClient

        self.carried()

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        return client.search_runs([client.get_experiment_by_name("ratchet").experiment_id])

    def carried(self) -> None:
        """Upload the runs that wait in the spool, or wait for the process that uploads them."""
        spool = self.folder / ".ratchet/spool"
        for _ in range(10 * WAIT_S):
            self._end(
                self.start(sys.executable, "-m", "tasks.io.runs.spool_uploader")
            )  # returns immediately if another process uploads
            with (spool / "uploader.lock").open("w") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (spool / "outage.txt").exists() or not list(spool.glob("*.jsonl")):
                    return
            time.sleep(0.1)
        raise AssertionError("the runs are not carried")

    @property
    def spooled(self) -> list[list[dict]]:
        """Return the events of each run that waits in the spool."""
        spools = (self.folder / ".ratchet/spool").glob("*.jsonl")
        return [list(map(json.loads, spool.read_text().splitlines())) for spool in spools]

    @property
    def last_words(self) -> list[str]:
        """Return the final status of each run in the spool."""
        return [events[-1]["status"] for events in self.spooled]

    def outputs(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "models").glob("*"))

    def digests(self) -> dict[str, str]:
        files = sorted(path for path in (self.folder / "models").rglob("*") if path.is_file())
        return {str(f.relative_to(self.folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
