"""Build and run commands of DVC's command line."""

import subprocess
import sys


def command(*arguments: str) -> list[str]:
    """Return the command line that runs DVC with this interpreter."""
    return [sys.executable, "-m", "dvc", *arguments]


def repro_command(stage: str) -> list[str]:
    """Return the command line that brings one stage up to date; it waits until no other DVC process holds the workspace's lock."""
    return [sys.executable, "-m", "flows.execution.dvc", "--wait-for-lock", "repro", "--single-item", stage]


def run(*arguments: str) -> None:
    """Run a DVC command with this process's standard streams. Raises RuntimeError if it fails."""
    if subprocess.run(command(*arguments), check=False).returncode:
        raise RuntimeError(f"`dvc {' '.join(arguments)}` failed; the lines above say why.")
