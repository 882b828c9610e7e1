"""Files and folders that appear complete or not at all: they are written beside the target, on the same disk, and then renamed."""

import difflib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LONGEST = 255
"""Bytes of the name of a file."""


def sibling(path: Path) -> Path:
    """Return the temporary path to which the contents of `path` are written first. Its name is fixed, because a killed process leaves it behind.

    A name that would be longer than a file system takes is a hash of it.
    """
    name = path.name + ".partial"
    if len(encoded := os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(encoded).hexdigest() + ".partial"
    return path.with_name(name)


def write_atomically(path: Path, data: str | bytes, *, concurrent: bool = False) -> None:
    """Write `data` to the file at `path`, creating its folders; text is UTF-8.

    Set `concurrent` if several processes may write this file without a lock. Each then waits for the one before it, and the last
    rename wins.
    """
    contents = data.encode() if isinstance(data, str) else data
    if concurrent:
        _write_in_turn(path, contents)
        return
    with _renamed(sibling(path), path) as partial:
        partial.write_bytes(contents)


def lines(path: Path) -> list[str]:
    """Return the lines of a file of JSON lines. They may contain characters at which `str.splitlines` would split."""
    text = path.read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n") if text else []


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, a folder or a link. It replaces `path` at the end, and is removed on an error.

    Raises IsADirectoryError if a file or a link would replace a folder.
    """
    with _renamed(sibling(path), path) as partial:
        yield partial


def missing(path: Path) -> FileNotFoundError:
    """Return the error for a path that does not exist. It names similar names in the same folder, or else the folder that was searched."""
    if path.is_symlink():
        return FileNotFoundError(
            f"{path} is a link to {path.readlink()}, which is not there. Correct the link, or name the file itself."
        )
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=2)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Name one as seen from {Path.cwd()}."
    return FileNotFoundError(f"{path}: there is no such file or folder. {hint}")


def is_folder(path: Path) -> bool:
    """Return True for a folder, and False for a link to a folder."""
    return path.is_dir() and not path.is_symlink()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file from the kernel's cache to the disk. Otherwise a rename may reach the disk before the contents, and power may fail in between."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def locked(path: Path) -> IO[bytes]:
    """Return `path`, open for appending and locked until it is closed.

    If another file got the name during the wait, lock that one.
    """
    while True:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


@contextmanager
def _renamed(partial: Path, path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)  # a killed process left it
    try:
        yield partial
        if partial.is_file():
            flush(partial)
        if is_folder(path) and is_folder(partial):  # a rename replaces files and links, but not a folder with contents
            shutil.rmtree(path)
        partial.replace(path)
    except BaseException:
        remove(partial)
        raise


def _write_in_turn(path: Path, contents: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = sibling(path)
    with locked(partial) as file:
        try:
            file.truncate(0)  # a killed process left it
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            remove(partial)
            raise
