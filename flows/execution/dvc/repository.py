"""Open the workspace's DVC repository, wait for its lock, and order its stages. DVC's errors are raised as one ValueError."""

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.execution.dvc import version
from tasks import configuration
from tasks.io.system import progress

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage
    from networkx import DiGraph

TEMPORARY_FOLDER = Path(".dvc/tmp")
"""The folder of DVC's locks."""


@contextmanager
def opened() -> "Iterator[Repo]":
    """Open the workspace's DVC repository and hold its lock.

    Raises ValueError for anything that DVC refuses, RuntimeError if DVC is missing or of an untested version.
    """
    version.check()
    try:
        from dvc.exceptions import CyclicGraphError, DvcException
        from dvc.repo import lock_repo
    except ImportError as error:
        raise RuntimeError(f"DVC cannot be imported ({error}). Reinstall it: {version.INSTALL}") from None
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        raise FileNotFoundError(f"{Path.cwd()} has no dvc.yaml and .dvc/. Run this in the project's root folder.")
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # errors are raised too; hides progress bars
    repo = None
    try:
        repo = _open_when_free()
        with lock_repo(repo):
            yield repo
    except CyclicGraphError as error:
        names = str(error).rpartition(": ")[2].rstrip(".")
        raise ValueError(
            f"dvc.yaml: these stages wait for each other: {names}. Remove an input of one of them."
        ) from None
    except DvcException as error:
        raise ValueError(_message_with_causes(error)) from None
    finally:
        if repo is not None:
            repo.close()


@contextmanager
def locked() -> Iterator[None]:
    """Hold DVC's locks without opening its repository, so that no DVC process writes its files meanwhile."""
    from dvc.lock import Lock

    TEMPORARY_FOLDER.mkdir(parents=True, exist_ok=True)
    with Lock(str(TEMPORARY_FOLDER / "lock"), wait=True), Lock(str(TEMPORARY_FOLDER / "rwlock.lock"), wait=True):
        yield


def ordered_stages(repo: "Repo", targets: Sequence[str] = ()) -> "tuple[DiGraph[Stage], list[Stage]]":
    """Return DVC's graph (stage → the stages it reads from), and the stages that `targets` need, in the order of `dvc repro`."""
    from dvc.repo.reproduce import get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    by_name = {stage.addressing: stage for stage in graph}
    chosen: list[Stage] = []
    for target in targets:
        group = [stage for name, stage in by_name.items() if name == target or name.startswith(f"{target}@")]
        if not group:
            near = difflib.get_close_matches(target, by_name, n=2)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(by_name)}."
            raise ValueError(f"dvc.yaml has no stage {target!r}. {hint}")
        chosen += group
    # `plan_repro` may order the stages of targets differently than in the whole graph, whose order `dvc repro` follows.
    needed = set(plan_repro(graph, chosen or None))
    return graph, [stage for stage in plan_repro(graph) if stage in needed]


def write_local_config(workspace: Path, cache_folder: Path) -> None:
    """Give another workspace a DVC configuration without git and with this cache."""
    from configobj import ConfigObj  # DVC uses it too: it quotes paths that hold commas and other special characters

    (workspace / ".dvc").mkdir(exist_ok=True)
    config = ConfigObj({"core": {"no_scm": "true"}, "cache": {"dir": str(cache_folder)}}, encoding="utf-8")
    with (workspace / ".dvc/config.local").open("wb") as file:
        config.write(file)


def _open_when_free() -> "Repo":
    """Open the repository. If another process holds its lock, report it and wait without a time limit."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    repo = Repo(".")
    try:
        with repo.lock:
            return repo
    except LockError:  # raised after DVC has tried for 3 s
        repo.close()
        owner = Path(repo.lock.lockfile).read_text().strip() or "unknown"
        progress.say(f"Process {owner} has locked this workspace for DVC; waiting for it …")
        return Repo(".", _wait_for_lock=True)


def _message_with_causes(error: BaseException) -> str:
    """Return the messages of a DVC error and of its causes, without the blank lines and links meant for DVC's console."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        parts += [text] if text and text not in parts else []
        cause = cause.__cause__
    message = ": ".join(parts)
    return f"{message}. {hint}" if (hint := _remedy(message)) else message


def _remedy(message: str) -> str:
    """Return a remedy: for a folder without git, and for a dvc.yaml that names a part of a composition which a params.yaml of an earlier
    version lacks. Empty for any other message.
    """
    if "is not a git repository" in message:
        return "Make it one: git init; or let DVC work without git: dvc config --local core.no_scm true"
    lacking = re.search(r"Could not find '(\w+)\.(\w+)'", message)
    section, key = lacking.groups() if lacking else ("", "")
    stages = configuration.stage_names()
    if f"{section}.{key}" not in {
        place for stage in stages for place in configuration.declaration(stage).parts.values()
    }:
        return ""
    of_section: Any = configuration.schema().model_fields[section].annotation
    return f"Write `{key}: {of_section.model_fields[key].default}` into section `{section}` of params.yaml"
