"""Run git on a repository that is data: no parent folder's repository, no hook and no program that it configures."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


def run(repository: Path, *arguments: str) -> bytes:
    """Run git on this repository and return its output. Raises ValueError with git's message if it fails."""
    process = subprocess.run(
        _command(repository, *arguments), capture_output=True, env=_environment(repository), check=False
    )
    if process.returncode:
        reason = process.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it ended without a word"]
        raise ValueError(
            f"git cannot read {repository}: {reason[0]}. Name the folder of a repository and a commit of it."
        )
    return process.stdout


def blobs(repository: Path, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the contents of objects by their names, one at a time."""
    with subprocess.Popen(
        _command(repository, "cat-file", "--batch"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(repository),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in names:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            size = int(process.stdout.readline().split()[2])
            yield process.stdout.read(size)
            process.stdout.read(1)
        process.stdin.close()


def _command(repository: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(repository), "-c", "log.showSignature=false", "-c", "core.fsmonitor=false", *arguments]


def _environment(repository: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {
        "GIT_CEILING_DIRECTORIES": str(repository.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
    }
