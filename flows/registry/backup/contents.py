"""Collect the files that a backup needs: all except those that can be recreated, and those that equal their version in the commit."""

import fnmatch
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from flows.execution import workspace
from flows.execution.dvc import cache, lock_file, lock_graph
from flows.execution.workspace import SCRATCH
from flows.registry import versions
from tasks.io.runs import run_store
from tasks.io.system import git

CACHE = ".dvc/cache"
"""The folder of DVC's cache in a backup, wherever the cache is on disk."""
STORE, PREFECT = "mlflow.db", ".ratchet/prefect/prefect.db"
"""The folder in a backup for databases of MLflow and Prefect that lie outside the workspace."""
PASSED_OVER = (".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis", "node_modules")
"""Names of folders that are recreated when they are needed."""
SCRATCH_PASSED_OVER = (
    "announced", "backup", "cache", "digests.json", "downloads", "duckdb", "forkserver.*", "huggingface", "locks", "logs", "restore",
    "restored.json", "serve", "turns", "why",
)  # fmt: skip
"""Entries of `.ratchet` that are recreated, or that only concern processes that have ended."""


@dataclass
class Contents:
    """The files of a backup: path in the workspace → where to read it."""

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    databases: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """Outputs of stages that are in DVC's cache, and therefore not among the files."""
    secret: list[str] = field(default_factory=list)
    """Files of secrets that were left out."""
    elsewhere: list[str] = field(default_factory=list)
    """Sentences about what belongs to the workspace but lies outside its folder."""


def collect(snapshots: Path, *, keys: bool, outputs: bool) -> Contents:
    """Collect everything. Databases are copied to `snapshots` consistently, even while a server writes to them.

    Without `outputs`, what DVC's remote has is left to it. The caller holds the workspace's lease.
    """
    state = Contents()
    # Spools first, then MLflow's database: a run that is uploaded in between is in both, and is recognised by its id.
    _copy_spool(snapshots / "spool", state)
    databases = _databases(state)
    for path, source in databases.items():
        state.files[path] = _snapshot(source, snapshots / path)
    state.databases = list(databases)
    settled = cache.settled_outputs()
    state.outputs = list(settled)
    digests = {*settled.values(), *_of_versions()} if outputs else set()
    state.files |= {f"{CACHE}/{path}": file for path, file in cache.objects(digests).items()}
    held = {*held_by_git(), *state.files}
    behind = {above.as_posix() for name in state.files for above in Path(name).parents}
    beside = {f"{source}{ending}" for source in databases.values() for ending in ("", "-wal", "-shm", "-journal")}
    for file in _walk(Path(), [Path(name) for name in settled]):
        _check_name(file)
        name = file.as_posix()
        if name in held or str(file.absolute()) in beside:
            continue
        if not keys and workspace.holds_secrets(file):
            state.secret.append(name)
        elif file.is_symlink() and name in behind:  # nothing is restored through a link
            state.elsewhere.append(
                f"{name} is a link to {file.readlink()}, of which runs that wait and databases were saved, as a folder"
            )
        elif file.is_symlink():
            state.links[name] = str(file.readlink())
            if not file.resolve().is_relative_to(Path.cwd()):
                state.elsewhere.append(f"{name} is a link to {state.links[name]}, of which the link alone was saved")
        elif file.is_file():  # and no socket, pipe or device
            state.files[name] = file
    return state


def _check_name(file: Path) -> None:
    try:
        file.as_posix().encode()
    except UnicodeEncodeError:
        raise ValueError(f"{file.as_posix()!a}: a backup can only hold names in UTF-8. Rename the file.") from None


def removed() -> list[str]:
    """Return the files of the commit that are not in the workspace."""
    if git.commit() == "none":
        return []
    gone = git.names("diff", "--relative", "--no-renames", "--diff-filter=D", "--name-only", "HEAD")
    return [name for name in gone if not os.path.lexists(name)]  # a file that git no longer tracks may still be here


def held_by_git() -> set[str]:
    """Return the files that are the same in the commit and in the workspace."""
    if git.commit() == "none":
        return set()
    return {*git.names("ls-tree", "-r", "--name-only", "HEAD")} - {
        *git.names("diff", "--relative", "--no-renames", "--name-only", "HEAD")
    }


def _of_versions() -> Iterator[str]:
    """Yield the hashes of outputs in the lock files of promoted and refused models."""
    for path in versions.FOLDER.glob(f"*/{lock_file.PATH.name}"):
        for entry in lock_file.stages(path).values():
            yield from lock_graph.hashes(entry, "outs").values()


def _walk(folder: Path, outputs: list[Path]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path in outputs or any(fnmatch.fnmatch(path.name, name) for name in PASSED_OVER):
            continue
        if path.parent == SCRATCH and any(fnmatch.fnmatch(path.name, name) for name in (*SCRATCH_PASSED_OVER, "spool")):
            continue
        if path == Path(".dvc/tmp") or path.resolve() == cache.folder():
            continue
        if path.is_dir() and not path.is_symlink():
            if not (path / "pyvenv.cfg").is_file():
                yield from _walk(path, outputs)
        else:
            yield path


def _copy_spool(snapshot: Path, state: Contents) -> None:
    """Copy the runs that wait for MLflow; a run that the uploader removes meanwhile has arrived there."""
    for path in sorted(run_store.SPOOL.rglob("*")):
        if path.suffix in (".lock", ".txt") or not path.is_file():
            continue
        copy = snapshot / path.relative_to(run_store.SPOOL)
        try:
            contents = path.read_bytes()
        except FileNotFoundError:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(contents)
        state.files[_place(path, path.as_posix())] = copy


def _databases(state: Contents) -> Mapping[str, Path]:
    """Return the local databases by their path in the backup, and note those that are on servers."""
    from prefect.settings import get_current_settings

    configured = get_current_settings().server.database.connection_url
    addresses = {STORE: run_store.uri(), PREFECT: configured.get_secret_value() if configured else ""}
    databases = {}
    for default, address in addresses.items():
        place = run_store.file_of(address)
        if place is None and address:
            owner = "MLflow" if default == STORE else "Prefect"
            state.elsewhere.append(f"{owner}'s records are kept by a server: back that up by its own means")
        for file in (Path(default), place):
            if file and (source := file.absolute()).is_file():
                databases[_place(source, default)] = source
    return databases


def _place(source: Path, default: str) -> str:
    """Return the path of a file in a backup, with links to folders resolved, since nothing is restored through a link."""
    here = Path.cwd().resolve()
    places = [file.parent.resolve() / file.name for file in (source, Path(default))]
    return next((place.relative_to(here).as_posix() for place in places if place.is_relative_to(here)), default)


def _snapshot(source: Path, copy: Path) -> Path:
    """Copy an SQLite database consistently, even while others write to it."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=run_store.PATIENCE_S)) as database,
        closing(sqlite3.connect(copy)) as target,
    ):
        try:
            database.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # a single file, whatever journal mode the server uses
        except sqlite3.Error as error:
            raise ValueError(f"{source} cannot be copied ({error}). Nothing was backed up.") from None
    return copy
