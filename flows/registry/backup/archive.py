"""Read and write backups on disk: contents named by their SHA-256, and one manifest that maps files of the workspace to them.

A folder holds any number of backups, which share contents (`objects/`), each with a manifest named by its time and its own hash. A file is
a ZIP archive without compression that holds one backup. Both are written with the manifest last, so that a write that was cut off leaves no
backup. The hashes detect damage, but not forgery: whoever can write the backup can write its hashes too.
"""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Protocol

from pydantic import AfterValidator, Field, ValidationError

from tasks.core.config import Config
from tasks.io.system import files

VERSION = 1
"""The format version of a manifest. A backup of another one is refused."""
MANIFEST = "manifest.json"
IN_FOLDER = re.compile(r"\d{4}-\d\d-\d\dT[\d.-]+Z-[0-9a-f]{16}\.json")
"""The name of a manifest in a folder, which may hold other files of a person."""
OBJECTS = "objects"
DAMAGED = "It is damaged: take another backup, or the copy that you keep of it."
CHUNK = 1 << 20


def _inside(path: str) -> str:
    """Return a path if it leads into the workspace, but not into git's folder, whose hooks are programs."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or ".git" in {part.lower() for part in parts}:
        raise ValueError(f"{path!r} leads out of the workspace or into .git")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class Entry(Config):
    """One file."""

    path: Inside
    """The path relative to the workspace. A path below `.dvc/cache/` belongs to DVC's cache, wherever that is."""
    sha256: str
    size: int
    mode: int


class Manifest(Config):
    """The contents of a backup, and where it was made."""

    version: int = VERSION
    time: str
    """UTC."""
    folder: str
    """The workspace's folder on the machine that made the backup."""
    commit: Annotated[str, Field(pattern="^([0-9a-f]{40,64}|none)$")]
    """The git commit, which holds the files that are not in the backup; `none` without git or before the first commit."""
    branch: str
    commits: str | None
    """The SHA-256 of a git bundle with the commits up to `commit` that no remote has; None if a remote has them all."""
    packages: dict[str, str]
    """The versions of the packages that wrote the databases."""
    with_outputs: bool
    """False if the outputs are only in DVC's remote."""
    outputs: list[Inside]
    """Outputs that are put in place from DVC's cache."""
    databases: list[Inside]
    """Databases of MLflow and Prefect."""
    files: list[Entry]
    links: dict[Inside, str]
    """Symbolic links: path → target."""
    removed: list[Inside]
    """Files of the commit that are not in the workspace."""

    @property
    def sizes(self) -> dict[str, int]:
        """The contents: SHA-256 → bytes."""
        return {entry.sha256: entry.size for entry in self.files}


class Writer(Protocol):
    """A writer of a backup: takes contents first, and then the manifest."""

    def has(self, digest: str) -> bool:
        """Return True if these contents need not be added."""
        ...

    def add(self, source: Path, digest: str) -> None:
        """Add contents. Raises RuntimeError if they have changed since they were hashed."""
        ...

    def finish(self, manifest: Manifest) -> Path:
        """Write the manifest, which completes the backup, and return its path."""
        ...


class Reader(Protocol):
    """A reader of a backup's manifest and contents."""

    def manifest(self) -> str:
        """Return the manifest's text."""
        ...

    def contents(self, digest: str) -> IO[bytes]:
        """Return an open stream of contents. Raises FileNotFoundError if they are missing."""
        ...

    def remedy(self, digest: str) -> str:
        """Return what a person can do about damaged contents."""
        ...


def is_folder(to: Path) -> bool:
    """Return True if a backup is written into a folder: one that exists, or a name without an ending."""
    return to.is_dir() or not to.suffix


def check_place(to: Path) -> None:
    """Raise ValueError if `to` names an existing file that is no backup, as it would be replaced."""
    if not is_folder(to) and os.path.lexists(to) and not _is_backup(to):
        raise ValueError(f"{to} already exists and is not a backup. Name another file, or a folder.")


def _is_backup(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


@contextmanager
def written(to: Path) -> Iterator[Writer]:
    """Yield a writer of a backup. If it is not finished, no file exists, and a folder holds no new backup."""
    if is_folder(to):
        yield FolderWriter(to)
        return
    with files.atomic_path(to) as partial:
        partial.touch(0o600)
        with zipfile.ZipFile(partial, "w") as archive:
            yield FileWriter(archive, to)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Manifest, Reader]]:
    """Yield the manifest of a backup, and a reader of its contents. A folder means its newest backup; a manifest in it names another.

    Raises ValueError for what is no whole backup.
    """
    if not path.exists():
        raise files.missing(path)
    if path.is_dir() or (path.suffix == ".json" and not zipfile.is_zipfile(path)):
        reader: Reader = FolderReader(path)
        yield _parsed(reader.manifest(), path), reader
        return
    try:
        with zipfile.ZipFile(path) as archive:
            reader = FileReader(archive)
            yield _parsed(reader.manifest(), path), reader
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a complete backup ({error}): it was truncated or altered. {DAMAGED}") from None


class FolderWriter:
    """Writes to a folder, which may already hold contents from earlier backups."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder

    def has(self, digest: str) -> bool:
        return _object(self.folder, digest).is_file()

    def add(self, source: Path, digest: str) -> None:
        with files.atomic_path(_object(self.folder, digest)) as partial:
            partial.touch(0o600)  # some contents are secret, and others may read the folder
            with partial.open("wb") as target:
                _copy(source, target, digest)

    def finish(self, manifest: Manifest) -> Path:
        text = manifest.model_dump_json()
        path = self.folder / f"{manifest.time.replace(':', '-')}-{_hash(text)}.json"
        with files.atomic_path(path) as partial:
            partial.touch(0o600)
            partial.write_text(text, encoding="utf-8")
        return path


class FileWriter:
    """Writes to one file."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path = archive, path
        self.known: set[str] = set()

    def has(self, digest: str) -> bool:
        return digest in self.known

    def add(self, source: Path, digest: str) -> None:
        with self.archive.open(f"{OBJECTS}/{digest}", "w", force_zip64=True) as target:
            _copy(source, target, digest)
        self.known.add(digest)

    def finish(self, manifest: Manifest) -> Path:
        self.archive.writestr(MANIFEST, manifest.model_dump_json())
        return self.path


class FolderReader:
    """Reads one backup of a folder."""

    def __init__(self, path: Path) -> None:
        self.folder = path if path.is_dir() else path.parent
        names = (file for file in path.glob("*.json") if IN_FOLDER.fullmatch(file.name))
        manifests = sorted(names) if path.is_dir() else [path]
        if not manifests:
            raise ValueError(
                f"{path} holds no backup: it has no manifest, which is written last. If a backup was interrupted, `ratchet backup {path}` goes on."
            )
        self.path = manifests[-1]

    def manifest(self) -> str:
        text = self.path.read_text(encoding="utf-8")
        if not self.path.stem.endswith(f"-{_hash(text)}"):
            raise ValueError(f"{self.path} does not have the hash that its name says. {DAMAGED}")
        return text

    def contents(self, digest: str) -> IO[bytes]:
        return _object(self.folder, digest).open("rb")

    def remedy(self, digest: str) -> str:
        return f"Remove {_object(self.folder, digest)}, and back up into this folder again; else take an earlier backup of it."


class FileReader:
    """Reads the backup in one file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive

    def manifest(self) -> str:
        try:
            return self.archive.read(MANIFEST).decode()
        except KeyError:
            raise zipfile.BadZipFile("it has no manifest") from None

    def contents(self, digest: str) -> IO[bytes]:
        try:
            return self.archive.open(f"{OBJECTS}/{digest}")
        except KeyError:
            raise FileNotFoundError(f"{OBJECTS}/{digest}") from None

    def remedy(self, digest: str) -> str:
        return DAMAGED


def extract(reader: Reader, entry: Entry, target: Path | None = None) -> None:
    """Write the contents of a file to `target`, or only check them. Raises ValueError with its name if they differ from what was saved."""
    digest = hashlib.sha256()
    try:
        # For a wrong CRC zipfile raises `BadZipFile`, which does not name the file of the workspace.
        with reader.contents(entry.sha256) as source, suppress(zipfile.BadZipFile):
            if target is None:
                for chunk in _chunks(source):
                    digest.update(chunk)
            else:
                with files.atomic_path(target) as partial:
                    partial.touch(0o600)
                    with partial.open("wb") as file:
                        for chunk in _chunks(source):
                            digest.update(chunk)
                            file.write(chunk)
    except FileNotFoundError as error:
        raise ValueError(
            f"{entry.path}: the backup lacks its contents ({error.filename or error}). {reader.remedy(entry.sha256)}"
        ) from None
    if digest.hexdigest() != entry.sha256:
        if target is not None:
            target.unlink(missing_ok=True)
        raise ValueError(f"{entry.path}: its contents are not those that were saved. {reader.remedy(entry.sha256)}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(text: str, path: Path) -> Manifest:
    try:
        version = json.loads(text).get("version")
        if version != VERSION:
            raise ValueError(
                f"{path} is a backup of format {version}, and this version of Ratchet reads format {VERSION}. Restore it by the Ratchet that made it: check "
                "out the commit of that day."
            )
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ValueError(
            f"{path}: {where}: {problem['msg'].removeprefix('Value error, ')}. Nothing was restored."
        ) from None
    except (json.JSONDecodeError, AttributeError, RecursionError):
        raise ValueError(f"{path} has no manifest that can be read. {DAMAGED}") from None
    if wrong := [entry.sha256 for entry in manifest.files if not re.fullmatch("[0-9a-f]{64}", entry.sha256)]:
        raise ValueError(f"{path}: {wrong[0]!r} is no SHA-256. {DAMAGED}")
    for name in (*(entry.path for entry in manifest.files), *manifest.links):
        if any(str(above) in manifest.links for above in PurePosixPath(name).parents):
            raise ValueError(f"{path}: {name!r} is reached through a link of the backup. Nothing was restored.")
    return manifest


def _object(folder: Path, digest: str) -> Path:
    return folder / OBJECTS / digest[:2] / digest


def _copy(source: Path, target: IO[bytes], expected: str) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as file:
        for chunk in _chunks(file):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != expected:
        raise RuntimeError(
            f"{source} changed while it was read, so that no backup was written. End what writes to it, and run this again."
        )


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
