"""Functions before and after bug-fix commits of a git repository."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from tasks.io.sources import git
from tasks.io.sources.record import Broken, Row


def functions(repository: Path, revision: str, match: str) -> Iterator[Row | Broken]:
    """Yield a row with `incorrect` and `correct` for each function changed by a commit up to `revision` whose message matches `match`.

    Newest commits first; merges and the first commit are left out, as they have no single parent. Raises ValueError if there is no
    repository or no such revision, and if git cannot parse `match`.
    """
    log = (
        "log",
        "--no-merges",
        "--min-parents=1",
        "--format=%H",
        "-i",
        "-E",
        f"--grep={match}",
        revision,
        "--",
    )
    for commit in git.run(repository, *log).decode().split():
        diff = ("diff-tree", "-r", "-z", "--no-commit-id", "--name-only", "--diff-filter=M", commit)
        for path in filter(None, git.run(repository, *diff).split(b"\0")):
            if path.endswith(b".py"):
                yield from _changed(repository, commit, os.fsdecode(path))


def _changed(repository: Path, commit: str, path: str) -> Iterator[Row | Broken]:
    where = f"{commit[:12]} {path}"
    try:
        before, after = (_functions(git.run(repository, "show", f"{side}:{path}")) for side in (f"{commit}^", commit))
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
    """Return the top-level functions of a module by name, without their decorators."""
    text = source.decode("utf-8")
    try:
        tree = ast.parse(text)
    except (ValueError, RecursionError) as error:
        raise SyntaxError(str(error)) from None
    definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name: ast.get_source_segment(text, node) or "" for node in definitions}
