"""Whole workspaces: copies of the repository's files under DVC and git, with a profile in use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Workspace:
    """A workspace in which commands run in processes, as for a user."""

    def __init__(self, folder: Path, profile: str, settings: dict[str, str]) -> None:
        """Copy the repository's files into an empty folder. `settings` are environment variables of its commands."""
        self.folder, self.settings = folder, settings
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if name != "dvc.lock" and (ROOT / name).is_file():  # the copy has run no stage yet
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        shutil.copyfile(folder / "params" / f"{profile}.yaml", folder / "params.yaml")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)

    @classmethod
    def at(cls, folder: Path) -> "Workspace":
        """Return the workspace in an existing folder."""
        copy = cls.__new__(cls)
        copy.folder, copy.settings = folder, {}
        return copy

    def cloned(self, folder: Path) -> "Workspace":
        """Commit everything, and return a `git clone` of the workspace."""
        signed = ["-c", "user.name=t", "-c", "user.email=t@t"]
        for command in (["add", "--all", "--", ".", ":!home"], [*signed, "commit", "--quiet", "-m", "all of it"]):
            subprocess.run(["git", *command], cwd=self.folder, check=True)
        subprocess.run(["git", "clone", "--quiet", str(self.folder), str(folder)], check=True)
        return self.at(folder)

    def run(self, *command: str) -> str:
        """Run `python -m command` in the workspace and return its output; a failure shows all of it."""
        done = self.attempt(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m command` and return the finished process."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of its commands: `python` is the one that runs the tests; home folder, MLflow store and Prefect belong to the workspace."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PREFECT"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return inherited | {"PATH": path, "HOME": str(home)} | self.settings

    def set(self, old: str, new: str) -> None:
        """Edit params.yaml."""
        params = self.folder / "params.yaml"
        assert old in params.read_text()
        params.write_text(params.read_text().replace(old, new))

    @property
    def lock(self) -> bytes:
        """The bytes of dvc.lock."""
        return (self.folder / "dvc.lock").read_bytes()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, empty_store, empty_prefect, known_speed) -> Callable[..., Workspace]:
    """Return a function that creates a workspace with a profile in use. Its databases of MLflow and Prefect have their schemas."""

    def make(profile: str, **settings: str) -> Workspace:
        made = Workspace(tmp_path_factory.mktemp(profile), profile, settings)
        shutil.copyfile(empty_store, made.folder / "mlflow.db")
        shutil.copytree(empty_prefect, made.folder / ".ratchet/prefect")
        return made

    return make
