"""Write a backup of everything that git does not hold, while no run works (`ratchet backup`)."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from flows.execution import workspace_lease
from flows.execution.dvc import cache
from flows.execution.workspace import SCRATCH
from flows.registry.backup import archive, contents
from flows.registry.backup.archive import Entry, Manifest
from tasks.io.system import files, git, progress

SNAPSHOTS = SCRATCH / "backup"
PACKAGES = ("mlflow", "prefect", "dvc")


def back_up(to: Path, *, keys: bool = False, outputs: bool = True, wait: bool = False) -> Path:
    """Write a backup to a file or into a folder, and return its path. Prints what is not in it.

    Raises ValueError if the place is in the workspace or is a file that is no backup, or outputs are left to a remote that lacks some;
    RuntimeError if a run works here; OSError if there is no room.
    """
    if to.resolve().is_relative_to(Path.cwd().resolve()):
        raise ValueError(
            f"{to} is inside the workspace, so the backup would be lost with it. Name a place outside: ratchet backup ../backups"
        )
    archive.check_place(to)
    if not outputs and (missing := cache.missing_in_remote()):
        raise ValueError(
            f"DVC's remote lacks {len(missing)} outputs ({', '.join(missing[:3])}{' …' if missing[3:] else ''}). `ratchet share` pushes them."
        )
    with workspace_lease.acquired(wait=wait), _snapshots() as folder:
        if workspace_lease.is_stage_running():
            raise RuntimeError(
                "A stage that was started by hand runs in this workspace. Wait for its end, and run this again."
            )
        held = contents.collect(folder, keys=keys, outputs=outputs)
        entries = [_entry(path, source, digest) for path, source, digest in _digests(held.files)]
        commits = _commits(folder / "commits.bundle")
        sources = {entry.sha256: held.files[entry.path] for entry in entries} | commits
        manifest = Manifest(
            time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            folder=str(Path.cwd()),
            commit=git.commit(),
            branch=git.branch(),
            commits=next(iter(commits), None),
            packages={name: metadata.version(name) for name in PACKAGES},
            with_outputs=outputs,
            outputs=held.outputs,
            databases=held.databases,
            files=sorted(entries, key=lambda entry: entry.path),
            links=held.links,
            removed=contents.removed(),
        )
        path, written = _write(to, manifest, sources)
    progress.say(f"{path}: {_summary(manifest, written)}")
    for line in _left_out(held, manifest):
        progress.say(line)
    return path


def room(at: Path) -> int:
    """Return the bytes that are free on the disk of a path, which need not exist."""
    while not at.exists():
        at = at.absolute().parent
    return shutil.disk_usage(at).free


def check_room(at: Path, needed: int) -> None:
    """Raise OSError unless the disk of a path has so many free bytes."""
    if (free := room(at)) < needed:
        raise OSError(
            f"{at} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB are needed. Free some space; nothing was written."
        )


@contextmanager
def _snapshots() -> Iterator[Path]:
    files.remove(SNAPSHOTS)  # left by a killed process
    SNAPSHOTS.mkdir(mode=0o700, parents=True)  # Prefect's database holds the key of its secrets
    try:
        yield SNAPSHOTS
    finally:
        files.remove(SNAPSHOTS)


def _digests(sources: Mapping[str, Path]) -> Iterator[tuple[str, Path, str]]:
    """Yield each file with its SHA-256. Hard links to one file are read once, as versions and outputs share their bytes with DVC's
    cache."""
    known: dict[tuple[int, int], str] = {}
    for path, source in progress.track(sources.items(), label="backup, reading", unit="file"):
        state = source.stat()
        key = (state.st_dev, state.st_ino)
        if key not in known:
            known[key] = archive.digest_of(source)
        yield path, source, known[key]


def _entry(path: str, source: Path, digest: str) -> Entry:
    state = source.stat()
    return Entry(path=path, sha256=digest, size=state.st_size, mode=state.st_mode & 0o777)


def _commits(bundle: Path) -> dict[str, Path]:
    """Return a git bundle of the commits of HEAD that no remote has, by its SHA-256; nothing if there are none."""
    if not git.has_unpushed_commits():
        return {}
    git.run("bundle", "create", "--quiet", str(bundle), "HEAD", "--not", "--remotes")
    return {archive.digest_of(bundle): bundle}


def _write(to: Path, manifest: Manifest, sources: Mapping[str, Path]) -> tuple[Path, int]:
    """Write the contents that are not there yet, and then the manifest. Returns its path and the bytes written."""
    with archive.written(to) as writer:
        new = {digest: source for digest, source in sources.items() if not writer.has(digest)}
        size = sum(source.stat().st_size for source in new.values())
        check_room(to, size + len(manifest.model_dump_json()))
        for digest, source in progress.track(new.items(), label="backup, writing", unit="file"):
            writer.add(source, digest)
        return writer.finish(manifest), size


def _summary(manifest: Manifest, written: int) -> str:
    total = sum(manifest.sizes.values())
    before = f", of which {(total - written) / 1e6:.1f} MB were there" if written < total else ""
    commit = f" The rest is git's commit {manifest.commit[:12]}." if manifest.commit != "none" else ""
    return f"{len(manifest.files)} files, {total / 1e6:.1f} MB{before}.{commit}"


def _left_out(held: contents.Contents, manifest: Manifest) -> Iterator[str]:
    if held.secret:
        yield f"Left out, since they hold secrets (--keys takes them along): {', '.join(held.secret)}"
    if not manifest.with_outputs:
        yield "Outputs of stages are left to DVC's remote, which has them all."
    yield from (f"Not in it: {what}." for what in held.elsewhere)
    if others := git.unpushed_branches():
        yield (
            f"Not in it: commits of {', '.join(others)}, which no remote has. `git push` keeps a branch, and `git stash branch` makes one of "
            "a stash."
        )
    remotes = git.run("remote").split() if manifest.commit != "none" else []
    where = "git clone …" if remotes else "git init, in an empty folder"
    if remotes and not manifest.commits:  # a commit that no remote has comes with the backup
        where += f" && git checkout {manifest.commit[:12]}"
    yield f"On another machine: {where}; and there: ratchet restore …"
