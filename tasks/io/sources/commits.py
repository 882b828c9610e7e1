"""Functions before and after the commits of a git repository that mend something."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.io.sources.table import Broken, Row


def functions(repository: Path, match: str) -> Iterator[Row | Broken]:
    """A row with `incorrect` and `correct` for each function that a commit whose message fits `match` has changed.

    Newest commits first; merges and the first commit have no one side before. Raises ValueError where there is no repository,
    and where git cannot read `match`.
    """
    log = _git(repository, "log", "--no-merges", "--min-parents=1", "--format=%H", "-i", "-E", f"--grep={match}")
    for commit in log.split():
        changed = _git(repository, "diff-tree", "-r", "-z", "--no-commit-id", "--name-only", "--diff-filter=M", commit)
        for path in filter(None, changed.split("\0")):
            if path.endswith(".py"):
                yield from _changed(repository, commit, path)


def _changed(repository: Path, commit: str, path: str) -> Iterator[Row | Broken]:
    where = f"{commit[:12]} {path}"
    try:
        before, after = (_functions(_git(repository, "show", f"{side}:{path}")) for side in (f"{commit}^", commit))
    except SyntaxError as error:
        yield Broken(where, "no Python", str(error), "")
        return
    for name, code in after.items():
        if before.get(name, code) != code:
            yield Row(f"{where}:{name}", {"incorrect": before[name], "correct": code})


def _functions(source: str) -> dict[str, str]:
    """The top-level functions of a module, by name, without their decorators."""
    try:
        tree = ast.parse(source)
    except (ValueError, RecursionError) as error:
        raise SyntaxError(str(error)) from None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name: ast.get_source_segment(source, node) or "" for node in found}


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        raise ValueError(f"git cannot read {repository}: {reason[0]}. Name the folder of a repository.")
    return done.stdout
