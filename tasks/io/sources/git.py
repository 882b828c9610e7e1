"""Run git on a repository that is data: without repositories of parent folders, hooks, or programs in its configuration."""

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


def blobs(repository: Path, names: Sequence[str]) -> Iterator[bytes | None]:
    """Yield the contents of objects by their names, one at a time; None for one that is missing or damaged."""
    process = None
    try:
        for name in names:
            process = process or _reader(repository)
            contents = _contents(process, name)
            if contents is None:  # git exits at a damaged object
                _end(process)
                process = None
            yield contents
    finally:
        if process is not None:
            _end(process)


def _reader(repository: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        _command(repository, "cat-file", "--batch"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(repository),
    )


def _contents(process: "subprocess.Popen[bytes]", name: str) -> bytes | None:
    """Request an object from a reader process; None if the response is not complete."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{name}\n".encode())
        process.stdin.flush()
    except BrokenPipeError:
        return None
    facts = process.stdout.readline().split()  # name, type and size, or `missing`
    if len(facts) != 3:
        return None
    size = int(facts[2])
    contents = process.stdout.read(size + 1)
    return contents[:size] if len(contents) == size + 1 else None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def _command(repository: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(repository), "-c", "log.showSignature=false", "-c", "core.fsmonitor=false", *arguments]


def _environment(repository: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {
        "GIT_CEILING_DIRECTORIES": str(repository.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
    }
