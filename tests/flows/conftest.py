"""A small workspace with four stages that are shell commands, real settings, DVC and git. Commands in it run in processes, as for a user."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.execution import ports, prefect_server

ROOT = Path(__file__).resolve().parents[2]

# The order of the plan is one, two, side, last. `side` needs only the input.
GRAPH = """\
stages:
  one:
    cmd: cp in.txt one.txt
    deps: [in.txt]
    params: [compute.threads]
    outs: [one.txt]
  two:
    cmd: mkdir two && sort one.txt > two/sorted.txt && cp code.py two/code.py
    deps: [one.txt, code.py]
    outs: [two]
  last:
    cmd: cat two/sorted.txt side.txt > last.txt
    deps: [two/sorted.txt, side.txt]
    outs: [last.txt]
  side:
    cmd: cp in.txt side.txt
    deps: [in.txt]
    outs: [side.txt]
"""


class Workspace:
    """A folder under git and DVC, with methods for what users do in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder.parent / f"{folder.name}-home"
        self.home.mkdir()
        self.api = ""

    @property
    def environment(self) -> dict[str, str]:
        quiet = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT", "RATCHET"))
        }
        unscheduled = {"RATCHET_NIGHTLY": "", "RATCHET_MONITOR": ""}  # no scheduled run starts while a test counts runs
        return (
            quiet | unscheduled | {"PYTHONPATH": str(ROOT), "HOME": str(self.home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        )

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """Start `python -m command`, with its output in `out.txt`."""
        with self.path("out.txt").open("w") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder, env=self.environment | environment, stdout=out, stderr=out, text=True,
            )  # fmt: skip

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m command` and return the finished process."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def ratchet(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run("flows.commands", *command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def path(self, name: str) -> Path:
        return self.folder / name

    def edit(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert old in text
        self.path(name).write_text(text.replace(old, new))

    @contextlib.contextmanager
    def kept(self, name: str) -> Iterator[None]:
        """Restore a file after the block, because tests share the workspace."""
        text = self.path(name).read_text()
        try:
            yield
        finally:
            self.path(name).write_text(text)

    def printed(self) -> str:
        return self.path("out.txt").read_text()

    @property
    def lock(self) -> bytes:
        return self.path("dvc.lock").read_bytes()


@pytest.fixture(scope="session")
def template(tmp_path_factory, empty_store, empty_prefect) -> Path:
    """The workspace of which the others are copies."""
    folder = tmp_path_factory.mktemp("template")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
    shutil.copyfile(ROOT / "params/workstation.yaml", folder / "params.yaml")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    shutil.copytree(empty_prefect, folder / ".ratchet/prefect")
    shutil.copytree(empty_prefect, os.environ["PREFECT_HOME"], dirs_exist_ok=True)  # for flows of this process
    (folder / ".gitignore").write_text("/.ratchet/\n/mlflow.db\n")
    pyproject = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(
        pyproject[pyproject.index("[tool.prefect]") :]
    )  # where plain `prefect` reads its settings
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "in.txt").write_text("b\na\n")
    (folder / "code.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def make(template, tmp_path) -> Callable[[str], Workspace]:
    """Return a function that creates a workspace in which nothing has run."""

    def copy(name: str) -> Workspace:
        shutil.copytree(template, tmp_path / name)
        return Workspace(tmp_path / name)

    return copy


@pytest.fixture
def workspace(make, monkeypatch) -> Workspace:
    """A workspace in which nothing has run. It is the current folder of this process."""
    made = make("workspace")
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture(scope="session")
def finished(template, tmp_path_factory) -> Path:
    """A workspace that plain `dvc repro` has brought up to date."""
    folder = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(template, folder)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture
def done(finished, tmp_path, monkeypatch) -> Workspace:
    """A copy of `finished`. It is the current folder of this process."""
    shutil.copytree(finished, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def up(template, tmp_path_factory, shared_by_long) -> Workspace:
    """A workspace in which `ratchet up` runs, for all tests; its `api` is the address of the server."""
    folder = tmp_path_factory.mktemp("up") / "workspace"
    shutil.copytree(template, folder)
    made = Workspace(folder)
    port = str(ports.free_port())
    made.api = f"http://127.0.0.1:{port}/api"
    process = made.start("flows.commands", "up", PREFECT_SERVER_API_PORT=port)
    wait_for(lambda: "prefect deployment run" in made.printed(), made.printed)
    made.offered_at_once = prefect_server.get(made.api, "deployments/name/pipeline/workstation")
    made.pid = process.pid

    def end() -> None:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert not prefect_server.answers(made.api)

    shared_by_long.callback(end)
    return made


def wait_for(condition: Callable[[], object], story: Callable[[], str] = str, seconds: float = 120) -> None:
    """Return when the condition holds. If it does not within `seconds`, fail with the text of `story`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, story()
        time.sleep(0.05)


def processes(mark: str) -> list[str]:
    """Return the command lines on this machine that contain `mark`, a text that no other test uses."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if mark in line and not line.startswith("ps ")]
