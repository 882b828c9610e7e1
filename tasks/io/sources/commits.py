"""Functions before and after the commits of a git repository that mend something."""

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.io.sources.table import Broken, Row


def functions(repository: Path, revision: str, match: str) -> Iterator[Row | Broken]:
    """A row with `incorrect` and `correct` for each function that a commit up to `revision` whose message fits `match` changed.

    Newest commits first; merges and the first commit have no one side before. Raises ValueError where there is no repository or
    no such revision, and where git cannot read `match`.
    """
    asked = ("log", "--no-merges", "--min-parents=1", "--format=%H", "-i", "-E", f"--grep={match}", revision, "--")
    for commit in _git(repository, *asked).decode().split():
        listed = ("diff-tree", "-r", "-z", "--no-commit-id", "--name-only", "--diff-filter=M", commit)
        for path in filter(None, _git(repository, *listed).split(b"\0")):
            if path.endswith(b".py"):
                yield from _changed(repository, commit, os.fsdecode(path))


def _changed(repository: Path, commit: str, path: str) -> Iterator[Row | Broken]:
    where = f"{commit[:12]} {path}"
    try:
        before, after = (_functions(_git(repository, "show", f"{side}:{path}")) for side in (f"{commit}^", commit))
    except UnicodeDecodeError as error:
        yield Broken(where, "not UTF-8", f"byte {error.start + 1} is {error.object[error.start]:#04x}", "")
        return
    except SyntaxError as error:
        yield Broken(where, "no Python", str(error), "")
        return
    for name, code in after.items():
        if before.get(name, code) != code:
            yield Row(f"{where}:{name}", {"incorrect": before[name], "correct": code})


def _functions(source: bytes) -> dict[str, str]:
    """The top-level functions of a module, by name, without their decorators."""
    text = source.decode("utf-8")
    try:
        tree = ast.parse(text)
    except (ValueError, RecursionError) as error:
        raise SyntaxError(str(error)) from None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name: ast.get_source_segment(text, node) or "" for node in found}


def _git(repository: Path, *arguments: str) -> bytes:
    """What git says of this very repository: no other one above it, and no program that its own settings would start."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_CEILING_DIRECTORIES": str(repository.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = ["git", "-C", str(repository), "-c", "log.showSignature=false", "-c", "core.fsmonitor=false", *arguments]
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it ended without a word"]
        raise ValueError(
            f"git cannot read {repository}: {reason[0]}. Name the folder of a repository and a commit of it."
        )
    return done.stdout
