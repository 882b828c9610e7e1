"""Run the command of a stage on this machine for a workspace on another: the far side of a connection.

The near side sends this file, `frames.py` and `supervisor.py`, and starts `main`. It needs only the standard library. Files are stored by
their SHA-256 in `objects/`, and linked from there into a folder of the stage, whose `.ratchet` is kept: a training resumes from its
checkpoint. When the near side ends, this process ends, with all processes that it started.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from flows.execution import supervisor
from flows.execution.elsewhere import frames
from flows.execution.elsewhere.frames import Frame, Link

KEPT = (".ratchet", "mlflow.db")
"""Entries of a stage's folder that are kept between two runs."""
FORGET_S = 7 * 24 * 3600.0
"""Seconds after which a file that no stage uses any more is removed."""
WAIT_S = 90.0
"""Seconds that an earlier run of the stage may take to end: longer than it takes to notice a network that failed."""
PACE_S = 0.2
CHANGED = "changed while it was sent"
"""The beginning of the message about a file whose contents do not match its digest."""


def main(folder: str) -> int:
    """Serve one connection on standard input and output, and return the exit code."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of anything else must not mix with frames
    link = Link(sys.stdin.buffer, outgoing)
    threading.Thread(target=_end_when_silent, args=(link,), name="end-when-silent", daemon=True).start()
    try:
        place = Path(folder).expanduser().absolute()  # commands run in another folder
        link.open()
        link.send("facts", python=platform.python_version(), packages=packages(), free=shutil.disk_usage(place).free)
        _serve(link, place, link.receive())
    except frames.Gone:
        return 1
    except OSError as error:
        text = f"the disk is full there ({folder})" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        link.send("problem", text=f"{text}.")
        return 1
    return 0


def _serve(link: Link, folder: Path, job: Frame) -> None:
    given = [*job["folders"], *(file["path"] for file in job["files"])]
    if outside := outsiders([*given, *job["outs"], job["folder"]]):
        raise OSError(f"{outside[0]} lies outside the folder of the stage")
    checkout = folder / job["workspace"] / job["stage"]
    checkout.mkdir(parents=True, exist_ok=True)
    with _locked(checkout, link) as lock:
        finished, name = checkout.with_name(f"{checkout.name}.finished"), _digest_of_job(job)
        if finished.is_file() and finished.read_text() == _receipt(name, checkout, job["outs"]):
            link.send("missing", digests=[])
            link.send("line", text="it was finished there when the connection ended: its outputs are fetched")
            code = 0
            _listen(link, done := threading.Event())
        else:
            finished.unlink(missing_ok=True)
            _receive_files(link, folder / "objects", job["files"])
            _listen(link, done := threading.Event())
            _lay_out(checkout, folder / "objects", job)
            _forget(folder / "objects")
            code = _run(link, checkout, job, lock)
            if code == 0 and _has_whole_outputs(checkout, job["outs"]):
                # The receipt only saves time: the outputs are complete, even if the disk is full by now.
                with contextlib.suppress(OSError):
                    finished.write_text(_receipt(name, checkout, job["outs"]))
        link.send("ended", code=code)
        if code == 0:
            for path in empty_folders(checkout, job["outs"]):
                link.send("folder", path=path.relative_to(checkout).as_posix())
            for path in _files_of(checkout, job["outs"]):
                place = path.relative_to(checkout).as_posix()
                link.send_file(path, "file", path=place, digest=_digest(path), executable=os.access(path, os.X_OK))
            link.send("complete")
        done.wait()
        finished.unlink(missing_ok=True)


def outsiders(paths: Iterable[str]) -> list[str]:
    """Return those of these paths that may lead out of their base folder."""
    return [path for path in paths if Path(path).is_absolute() or ".." in Path(path).parts]


def empty_folders(root: Path, paths: Iterable[str]) -> list[Path]:
    """Return the empty folders at or below these paths, sorted, so that the order is the same on every disk."""
    walked = (entry for path in paths for entry in os.walk(root / path))
    return sorted(Path(folder) for folder, folders, files in walked if not folders and not files)


def packages() -> dict[str, str]:
    """Return the versions of the installed packages by name; of two with one name, the one that Python imports.

    They are read from the names of folders, as parsing the metadata of some hundred packages takes a second.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        for path in Path(folder or ".").glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return versions


def _end_when_silent(link: Link) -> None:
    """End this process if the other side has given no sign of life for `SILENCE_S`."""
    while time.monotonic() - link.heard < frames.SILENCE_S:
        time.sleep(1)
    os._exit(1)


def _listen(link: Link, done: threading.Event) -> None:
    """From now on, end this process when the near side ends; set `done` when the near side has received everything.

    The supervisor of the command notices that this process has ended, and ends the processes that it started.
    """

    def listen() -> None:
        try:
            while link.receive()["kind"] != "received":
                pass
        except frames.Gone:
            os._exit(1)
        done.set()

    threading.Thread(target=listen, name="listen", daemon=True).start()


def _locked(checkout: Path, link: Link) -> IO[str]:
    """Return the open lock of a stage's folder. The supervisor of its command holds it too, so that two runs never share a folder."""
    lock = checkout.with_name(f"{checkout.name}.lock").open("w")
    deadline, is_reported = time.monotonic() + WAIT_S, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"an earlier run of this stage is still running in {checkout}") from None
        if not is_reported:
            link.send("line", text="an earlier run of this stage is still running there; waiting for its end")
            is_reported = True
        link.heard = time.monotonic()  # nothing is received while waiting
        time.sleep(PACE_S)


def _digest_of_job(job: Frame) -> str:
    """Return a digest of all that determines the outputs of a job: its inputs, and the versions of Python and packages."""
    wanted = {name: job[name] for name in ("files", "folders", "outs", "commands", "folder")}
    wanted |= {"python": platform.python_version(), "packages": packages()}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def _receipt(job: str, checkout: Path, outs: list[str]) -> str:
    """Return a digest of a job's digest and of the sizes of its outputs, which change if outputs are removed or lost in a power failure."""
    sizes = {path.relative_to(checkout).as_posix(): path.lstat().st_size for path in _files_of(checkout, outs)}
    return hashlib.sha256(json.dumps([job, sizes]).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _object(objects: Path, digest: str) -> Path:
    return objects / digest[:2] / digest


def _stamp(path: Path) -> int:
    """Return the modification time of a stored file, derived from its digest: a write through a link changes it."""
    return int(path.name[:7], 16)


def _renew(path: Path, size: int) -> bool:
    """Postpone the removal of a stored file, as a stage that runs at the same time may be removing files; return False if it was altered.

    After a power failure its name and times may be there, but not its contents.
    """
    try:
        if (path.stat().st_mtime, path.stat().st_size) != (_stamp(path), size):
            return False
        os.utime(path, times=(_stamp(path), _stamp(path)))  # the call sets `st_ctime` to now, which `_forget` reads
    except FileNotFoundError:
        return False
    return True


def _receive_files(link: Link, objects: Path, files: list[dict[str, Any]]) -> None:
    """Request the files that are not here yet, and store them."""
    sizes = {file["digest"]: file["size"] for file in files}
    missing = [digest for digest, size in sizes.items() if not _renew(_object(objects, digest), size)]
    needed = sum(sizes[digest] for digest in missing)
    objects.mkdir(exist_ok=True)
    if needed > (free := shutil.disk_usage(objects).free):
        raise OSError(f"{needed / 1e9:.1f} GB are to be sent, and {free / 1e9:.1f} GB of disk are free in {objects}")
    link.send("missing", digests=missing)
    for _ in missing:
        frame = link.receive()
        path = _object(objects, frame["digest"])
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.partial")
        try:
            if link.receive_file(frame, partial) != frame["digest"]:
                raise OSError(f"{frame['path']} {CHANGED}, or arrived damaged. Run it again")
            partial.chmod(0o444)
            os.utime(partial, times=(_stamp(path), _stamp(path)))
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)


def _lay_out(checkout: Path, objects: Path, job: Frame) -> None:
    """Make the folder of a stage hold exactly the files of a job, beside what is kept and the parent folders of its outputs."""
    wanted = {checkout / file["path"] for file in job["files"]}
    for path in list(_files_of(checkout, ["."])):
        if path not in wanted and path.relative_to(checkout).parts[0] not in KEPT:
            path.unlink()
    for root, _, _ in os.walk(checkout, topdown=False):
        if Path(root) != checkout and Path(root).relative_to(checkout).parts[0] not in KEPT:
            with contextlib.suppress(OSError):  # the folder is not empty
                Path(root).rmdir()
    for folder in job["folders"]:
        (checkout / folder).mkdir(parents=True, exist_ok=True)
    for file in job["files"]:
        _link(_object(objects, file["digest"]), checkout / file["path"], is_executable=file["executable"])
    for out in job["outs"]:
        (checkout / out).parent.mkdir(parents=True, exist_ok=True)


def _link(source: Path, target: Path, *, is_executable: bool) -> None:
    """Link a file of a stage's folder to the stored one, or copy it if the file system has no links."""
    if target.is_file() and not is_executable and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not is_executable:  # the mode belongs to the file, and would be that of all its links
        with contextlib.suppress(OSError):  # this file system has no links; any other error comes from the copy below
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if is_executable else 0o644)


def _forget(objects: Path) -> None:
    """Remove files that no stage has used for long, and partial files of connections that ended."""
    for path in objects.glob("??/*"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # a stage that runs at the same time has renamed or removed it
            continue
        if stat.st_nlink == 1 and time.time() - stat.st_ctime > FORGET_S:
            path.unlink(missing_ok=True)


def _files_of(checkout: Path, outs: list[str]) -> Iterator[Path]:
    """Yield the files of these paths, with each file of a folder."""
    for out in outs:
        path = checkout / out
        if path.is_dir() and not path.is_symlink():
            yield from sorted(file for file in path.rglob("*") if file.is_symlink() or not file.is_dir())
        elif path.exists() or path.is_symlink():
            yield path


def _has_whole_outputs(checkout: Path, outs: list[str]) -> bool:
    """Return True if every output exists, and everything in it can be sent."""
    return all((checkout / out).exists() for out in outs) and all(map(Path.is_file, _files_of(checkout, outs)))


def _run(link: Link, checkout: Path, job: Frame, lock: IO[str]) -> int:
    """Run the commands of a stage one after the other until one fails, and return the last exit code."""
    spool = checkout / ".ratchet/spool"
    shutil.rmtree(spool, ignore_errors=True)  # left by an earlier run, which the near side has closed
    env = (
        os.environ
        | {"PATH": _programs(checkout / ".ratchet/bin"), "PYTHONUNBUFFERED": "1", "DVC_ROOT": str(checkout)}
        | job["environment"]
    )
    (checkout / job["folder"]).mkdir(parents=True, exist_ok=True)
    code = 0
    for command in job["commands"]:
        ended = threading.Event()
        process = supervisor.start(
            ["/bin/sh", "-c", command],
            cwd=checkout / job["folder"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[lock.fileno()],
        )
        events = threading.Thread(target=_forward_events, args=(link, spool, ended), daemon=True)
        events.start()
        for line in process.stdout or ():
            link.send("line", text=line.rstrip("\n"))
        code = process.wait()
        ended.set()
        events.join()
        if code:
            break
    return code


def _programs(own: Path) -> str:
    """Return a PATH on which `python` is the interpreter that runs this, whose package versions were compared.

    Beside a `python3.12` there may be no `python`, or only the system's: then a folder of our own leads to the right one.
    """
    folder = Path(sys.executable).parent
    folders = [str(folder), os.environ.get("PATH", "")]
    if not (folder / "python").exists() or not (folder / "python").samefile(sys.executable):
        own.mkdir(parents=True, exist_ok=True)
        (own / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (own / "python").chmod(0o755)  # a script, as Python would not find its virtual environment through a link
        folders.insert(0, str(own))
    return os.pathsep.join(folders)


def _forward_events(link: Link, spool: Path, ended: threading.Event) -> None:
    """Send each line of the run spool as it appears, until the command has ended."""
    sent: dict[Path, int] = {}
    is_last = False
    while not is_last:
        is_last = ended.wait(PACE_S)
        for path in sorted(spool.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(sent.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):  # it is still being written
                        break
                    link.send("event", run=path.stem, line=line.decode(errors="replace"))
                    sent[path] = sent.get(path, 0) + len(line)
