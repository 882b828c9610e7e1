"""`ratchet restore`: put a backup into a clone that has nothing of its own.

Everything is first checked and written to temporary paths. A restore that was interrupted is started again, and keeps what is in place. The
databases come last.
"""

import json
import os
import shlex
import shutil
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath

from flows.execution import workspace_lease
from flows.execution.dvc import cache
from flows.execution.workspace import SCRATCH
from flows.registry.backup import archive, contents
from flows.registry.backup.archive import Entry, Manifest, Reader
from flows.registry.backup.writing import check_room
from flows.registry.versions import WRITABLE
from tasks.io.runs import moved_store
from tasks.io.system import files, git, progress

STAGING = SCRATCH / "restore"
MOVED = SCRATCH / "restored.json"
"""Databases that were restored, in which paths of this folder replaced the old ones: path → the hash in the backup, and the hash here."""
SECRET = (SCRATCH / "prefect", SCRATCH / "keys")
"""Folders that only their owner may read. Prefect's database holds secrets and the key to them."""


def restore(source: Path, *, dry: bool = False) -> Manifest:
    """Restore the newest backup of a folder, the one of a manifest, or that of a file. `dry` checks every file of it and writes nothing.

    Raises ValueError if the backup is damaged or of another format, this folder is not at its commit, or files would be overwritten.
    """
    with archive.opened(source) as (manifest, reader):
        if dry:
            for entry in progress.track(_distinct(manifest), label="checking", unit="file"):
                archive.extract(reader, entry)
            return manifest
        _check_commit(manifest, reader)
        with workspace_lease.acquired():
            missing = _missing(manifest)
            check_room(STAGING, sum({entry.sha256: entry.size for entry in missing}.values()))
            _stage(reader, missing)
            _place(manifest, missing)
            files.remove(STAGING)
    return manifest


def other_versions(manifest: Manifest) -> list[str]:
    """Return a sentence for each package whose database was written by another version than the installed one."""
    installed = {name: metadata.version(name) for name in manifest.packages}
    return [
        f"{name} {was}, here {installed[name]}" for name, was in manifest.packages.items() if installed[name] != was
    ]


def _check_commit(manifest: Manifest, reader: Reader) -> None:
    """Raise ValueError unless the backup's commit is checked out. Commits that only the backup has are fetched from it."""
    if not git.is_repository():
        raise ValueError(
            f"{Path.cwd()} is not a git clone. `git clone` the project, or `git init` where it never had a remote."
        )
    if manifest.commit in ("none", git.commit()):
        return
    if manifest.commits and not git.has_commit(manifest.commit):
        bundle = STAGING / "commits.bundle"
        entry = Entry(path="commits", sha256=manifest.commits, size=0, mode=0)
        archive.extract(reader, entry, bundle)
        git.run("fetch", "--quiet", str(bundle), "HEAD")
        files.remove(STAGING)
    here, branch = git.commit(), ""
    if manifest.branch and not git.has_own_commits(manifest.branch, manifest.commit):  # `-B` would drop them
        branch = f"-B {shlex.quote(manifest.branch)} "
    raise ValueError(
        f"The backup belongs to commit {manifest.commit[:12]}, and {'none' if here == 'none' else here[:12]} is checked out here. "
        f"git checkout {branch}{manifest.commit}, and then this again."
    )


def _distinct(manifest: Manifest) -> list[Entry]:
    """Return one file for each content, with the bundle of commits."""
    bundle = [Entry(path="commits", sha256=manifest.commits, size=0, mode=0)] if manifest.commits else []
    return list({entry.sha256: entry for entry in [*manifest.files, *bundle]}.values())


def _missing(manifest: Manifest) -> list[Entry]:
    """Return the files that differ here from the backup. Raises ValueError if a file would be lost that neither git nor DVC's cache has."""
    missing: list[Entry] = []
    replaced = [path.as_posix() for path in _files_above(manifest)]
    for entry in manifest.files:
        path = _target(entry.path)
        if not path.is_file() or not _is_in_place(entry, archive.digest_of(path)):
            missing.append(entry)
            replaced += _files_at(path)
    for name, target in manifest.links.items():
        link = _target(name)
        if not link.is_symlink() or str(link.readlink()) != target:
            replaced += _files_at(link)
    for path in map(_target, manifest.removed):
        replaced += [] if files.is_folder(path) else _files_at(path)
    unchanged = contents.held_by_git()
    in_the_way = [name for name in replaced if name not in unchanged] + _unsaved_outputs(manifest)
    if in_the_way:
        raise ValueError(
            f"{Path.cwd()} has files of its own, which the backup would replace: {', '.join(in_the_way[:5])}{' …' if in_the_way[5:] else ''}. "
            "Restore in a fresh clone, or move them aside. Nothing was written."
        )
    return missing


def _is_in_place(entry: Entry, digest: str) -> bool:
    """Return True if a file with this hash equals the backup's, or what an earlier restore made of it."""
    return digest == entry.sha256 or _moved().get(entry.path) == [entry.sha256, digest]


def _moved() -> dict[str, list[str]]:
    return dict(json.loads(MOVED.read_text(encoding="utf-8"))) if MOVED.is_file() else {}


def _files_at(path: Path) -> list[str]:
    """Return the file at a path that is to be replaced, or the files of the folder there; an empty folder itself."""
    if not files.is_folder(path):
        return [path.as_posix()] if os.path.lexists(path) else []
    return [file.as_posix() for file in path.rglob("*") if not files.is_folder(file)] or [path.as_posix()]


def _files_above(manifest: Manifest) -> list[Path]:
    """Return the files here whose paths are folders in the backup."""
    names = (*(entry.path for entry in manifest.files), *manifest.links)
    above = {str(folder) for name in names for folder in PurePosixPath(name).parents} - {"."}
    return [path for path in map(_target, sorted(above)) if os.path.lexists(path) and not path.is_dir()]


def _unsaved_outputs(manifest: Manifest) -> list[str]:
    """Return the files of outputs here whose contents neither DVC's cache nor the backup of it has."""
    if not manifest.with_outputs:
        return []
    saved = {entry.path for entry in manifest.files}
    here = [Path(file) for output in manifest.outputs for file in _files_at(Path(output)) if Path(file).is_file()]
    places = {file: cache.place_of(file) for file in here}
    return [
        file.as_posix()
        for file, place in places.items()
        if f"{contents.CACHE}/{place}" not in saved and not (cache.folder() / place).is_file()
    ]


def _target(path: str) -> Path:
    """Return the place of a file. Raises ValueError if a link leads out of the workspace, or into git's folder, on the way there."""
    here, target = Path.cwd().resolve(), Path(path)
    if path.startswith(f"{contents.CACHE}/"):
        here = cache.folder()
        target = here / path.removeprefix(f"{contents.CACHE}/")
    parent = target.parent.resolve()
    if not parent.is_relative_to(here) or ".git" in map(str.lower, parent.relative_to(here).parts):
        raise ValueError(
            f"{path} would be written outside of {here}, or into .git, where a link leads. Nothing was restored."
        )
    return target


def _stage(reader: Reader, missing: list[Entry]) -> None:
    """Extract contents to temporary paths; those that an earlier attempt extracted are kept."""
    needed = {entry.sha256: entry for entry in missing}
    for digest, entry in progress.track(needed.items(), label="restoring", unit="file"):
        staged = STAGING / digest
        if not staged.is_file():
            archive.extract(reader, entry, staged)


def _place(manifest: Manifest, missing: list[Entry]) -> None:
    for path in (*map(_target, manifest.removed), *_files_above(manifest)):
        if os.path.lexists(path) and not files.is_folder(path):
            path.unlink()
            with suppress(OSError):  # a folder that is not empty
                os.removedirs(path.parent)
    databases = [entry for entry in missing if entry.path in manifest.databases]
    left = {entry.sha256: 0 for entry in missing}
    for entry in missing:
        left[entry.sha256] += 1
    shared: dict[str, Path] = {}
    for entry in [entry for entry in missing if entry not in databases]:
        left[entry.sha256] -= 1
        _put(entry, _target(entry.path), shared, last=not left[entry.sha256])
    for name, target in manifest.links.items():
        with files.atomic_path(_target(name)) as link:
            link.symlink_to(target)
    if manifest.with_outputs and manifest.outputs:
        cache.checkout(manifest.outputs)
    for entry in databases:
        staged = STAGING / entry.sha256
        if archive.digest_of(staged) == entry.sha256:  # otherwise an earlier attempt has already updated its paths
            with files.atomic_path(staged) as partial:
                shutil.copyfile(staged, partial)
                moved_store.relocate(partial, Path(manifest.folder), Path.cwd())
        # Recorded before the database is in place, so that a restore that is interrupted here recognises it.
        moved = _moved() | {entry.path: [entry.sha256, archive.digest_of(staged)]}
        files.write_atomically(MOVED, json.dumps(moved) + "\n")
        _put(entry, _target(entry.path), {}, last=True)


def _put(entry: Entry, path: Path, shared: dict[str, Path], *, last: bool) -> None:
    """Put a file in its place. Read-only ones with the same contents share their bytes, as versions and DVC's cache do."""
    staged = STAGING / entry.sha256
    for folder in SECRET:
        if path.is_relative_to(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not entry.mode & WRITABLE and entry.sha256 in shared:
        with suppress(OSError), files.atomic_path(path) as link:
            link.hardlink_to(shared[entry.sha256])
            return
    with files.atomic_path(path) as partial:
        if last:
            shutil.move(staged, partial)
        else:
            partial.touch(0o600)
            shutil.copyfile(staged, partial)
        partial.chmod(entry.mode & 0o777)
    if not entry.mode & WRITABLE:
        shared[entry.sha256] = path
