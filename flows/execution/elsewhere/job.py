"""Run the command of a stage on a host: send its inputs, show its output, record its run, and put its outputs in place."""

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from flows.execution import workspace
from flows.execution.elsewhere import connection, far_side, hosts, pins
from flows.execution.elsewhere.channel import Unreachable
from flows.execution.elsewhere.frames import Frame, Gone, Link
from flows.execution.elsewhere.over_ray import Work
from tasks.core import environment
from tasks.io import provenance, stage_outputs
from tasks.io.runs import tracking
from tasks.io.system import git
from tasks.io.system.files import sibling

GRAPH = ("dvc.yaml", "dvc.lock", "params.yaml")
"""Files that a stage may read although git may not track them and `deps` of dvc.yaml does not name them."""
ATTEMPTS = 3
"""Attempts to send files that change while they are sent."""
RECORD = "mlflow.db"
"""Prefix of the names of MLflow's database and its journal, which change at any time."""
PASSED_ON = (
    environment.PARENT_RUN,
    environment.FLOW_RUN,
    environment.PROGRESS_S,
    environment.TRACEBACK,
    environment.TRACES,
    environment.RENDEZVOUS,
)
ENVIRONMENT = {"RATCHET_FORKSERVER": "0"}
"""The far side runs one stage, and a fork server would serve no other."""


@dataclass(frozen=True)
class Job:
    """The work of a stage, with paths relative to the workspace."""

    stage: str
    """Its name in DVC."""
    commands: Sequence[str]
    deps: Sequence[str]
    outs: Sequence[str]
    of_any: Sequence[str]
    """Outputs of all stages. They are not sent unless this stage depends on them, even if git tracks them."""
    folder: str = "."
    """The folder in which the commands run."""


@cache
def check(name: str, stage: str) -> connection.Facts:
    """Connect to the host of a stage, check its versions, and return its facts. Cached per process.

    Raises ValueError if the hosts file lacks the host, Unreachable if it cannot be used.
    """
    host = hosts.find(name, stage)
    with connection.opened(name, host, Work(stage, say=lambda _: None, looks=True)) as (_, facts):
        pins.check(name, host, facts)
    return facts


def run(name: str, job: Job, say: Callable[[str], None]) -> int:
    """Run a job on a host and return the exit code of its commands. If it is 0, all outputs are in place.

    Files that change while they are sent, such as a `.gitignore` to which DVC adds the output of another stage, are sent again. Raises
    Unreachable, with what to do, if the host cannot be used or was lost.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return _run(name, job, say)
        except Unreachable as error:
            if not left or far_side.CHANGED not in str(error):
                raise
            say(f"on {name}: a file {far_side.CHANGED}; once more")
    raise AssertionError("the last attempt returns or raises")


def _run(name: str, job: Job, say: Callable[[str], None]) -> int:
    host = hosts.find(name, job.stage.partition("@")[0])
    if outside := far_side.outsiders([*job.deps, *job.outs, job.folder]):
        raise ValueError(
            f"{job.stage}: {outside[0]} lies outside the workspace, and {name} is sent only files of the workspace. Move it there, or run the stage here: "
            f"leave `host: {name}` out of `resources`."
        )
    given = _files(job)
    relay = tracking.Relay({"ratchet.host": name} | tracking.source_of_code())
    with connection.opened(name, host, Work(job.stage, say)) as (link, facts):
        pins.check(name, host, facts)
        variables = {variable: os.environ[variable] for variable in PASSED_ON if variable in os.environ}
        link.send(
            "job",
            workspace=_workspace(),
            stage=job.stage.replace("/", "_"),
            commands=list(job.commands),
            folder=job.folder,
            files=given,
            folders=[path.as_posix() for path in far_side.empty_folders(Path(), job.deps)],
            outs=list(job.outs),
            environment=variables | ENVIRONMENT | {"DVC_STAGE": job.stage},
        )
        partial = stage_outputs.prepare({out: Path(out) for out in job.outs})
        try:
            code = _follow(name, link, given, partial, relay, say)
        finally:
            relay.close()
        if code == 0:
            if missing := [out for out, path in partial.items() if not path.exists()]:
                raise RuntimeError(f"{job.stage} ended on {name} without writing {', '.join(missing)}.")
            stage_outputs.publish(partial, {out: Path(out) for out in job.outs})
            link.send("received")
    return code


def _follow(
    name: str,
    link: Link,
    given: Sequence[Mapping[str, Any]],
    partial: dict[str, Path],
    relay: tracking.Relay,
    say: Callable[[str], None],
) -> int:
    """Answer requests of the far side and receive what it sends until the job is done; return the job's exit code."""
    code, by_digest = 0, {file["digest"]: file for file in given}
    for frame in _received(link):
        match frame["kind"]:
            case "missing":
                wanted = [by_digest[digest] for digest in frame["digests"]]
                megabytes = sum(file["size"] for file in wanted) / 2**20
                say(f"on {name}: {len(given)} files, of which {len(wanted)} ({megabytes:.1f} MiB) are sent")
                _send_files(name, link, wanted)
            case "line":
                say(frame["text"])
            case "event":
                relay.take(frame["run"], frame["line"])
            case "folder":
                _place(name, frame, partial).mkdir(parents=True, exist_ok=True)
            case "file":
                _take_file(name, link, frame, partial)
            case "problem":
                raise Unreachable(f"{name}: {frame['text']}")
            case "ended" if frame["code"]:
                code = frame["code"]
                break
            case "complete":
                break
    return code


def _send_files(name: str, link: Link, files: Sequence[Mapping[str, Any]]) -> None:
    """Send files, as many as the far side takes. Raises Unreachable if one is gone, or became shorter."""
    try:
        for file in files:
            link.send_file(Path(file["path"]), "object", digest=file["digest"], path=file["path"])
    except Gone:
        return  # the far side may have ended with a problem, which is received next
    except OSError as error:
        raise Unreachable(f"{name}: {file['path']} {far_side.CHANGED} ({error}). Run it again.") from None


def _received(link: Link) -> Iterator[Frame]:
    while True:
        yield link.receive()


def _place(name: str, frame: Frame, partial: dict[str, Path]) -> Path:
    """Return the temporary path for what a frame brings. Raises RuntimeError if it belongs to no output."""
    path = PurePosixPath(frame["path"])
    out = next((out for out in partial if path == PurePosixPath(out) or PurePosixPath(out) in path.parents), None)
    if out is None or far_side.outsiders([frame["path"]]):
        raise RuntimeError(f"{name} sent {path}, which is no output of the stage.")
    return partial[out] / path.relative_to(out)


def _take_file(name: str, link: Link, frame: Frame, partial: dict[str, Path]) -> None:
    """Write a file of an output to its temporary path. Raises RuntimeError if it belongs to no output, or arrived damaged."""
    target = _place(name, frame, partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link.receive_file(frame, target) != frame["digest"]:
        raise RuntimeError(
            f"{frame['path']} of {name} arrived damaged. Run it again: it was computed, and is fetched once more."
        )
    if frame["executable"]:
        target.chmod(0o755)


def _workspace() -> str:
    """Return the name of this workspace on other machines, which no other workspace has."""
    here = Path.cwd().resolve()
    digest = hashlib.sha256(f"{socket.gethostname()}:{here}".encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', here.name)}-{digest[:8]}"


def _holds_secrets(path: Path) -> bool:
    """Return True for a file of secrets, and for a link to one, as the contents of its target would be sent."""
    return workspace.holds_secrets(path) or workspace.holds_secrets(Path(os.path.relpath(path.resolve())))


def _by_links(digests: Mapping[Path, str]) -> dict[Path, str]:
    """Return files under the further paths that they have through git's links to folders of the workspace: path → digest."""
    here = Path.cwd()
    led = {
        link: place.relative_to(here)
        for link in git.workspace_links()
        if (place := link.resolve()).is_relative_to(here)
    }
    return {
        link / path.relative_to(folder): digest
        for link, folder in led.items()
        for path, digest in digests.items()
        if path.is_relative_to(folder) and not path.is_relative_to(link)
    }


def _files(job: Job) -> list[dict[str, Any]]:
    """Return the files that a stage is given: those that git tracks or would add, without secrets, and the stage's dependencies.

    Raises ValueError if a dependency holds secrets: without them the stage would have other inputs than here.
    """
    outs = {place for out in map(Path, job.of_any) for place in (out, sibling(out))}
    files = [path for path in git.workspace_files() if not path.name.startswith(RECORD) and not _holds_secrets(path)]
    known = [path for path in files if outs.isdisjoint({path, *path.parents})]
    graph = [path for path in map(Path, GRAPH) if path.is_file()]
    digests: dict[Path, str] = {}
    for path in (*known, *graph, *map(Path, job.deps)):
        digests |= provenance.digests(path)
    provenance.save_digests()
    if secret := next(filter(_holds_secrets, digests), None):
        raise ValueError(
            f"{job.stage}: {secret} is a file of secrets, and would be sent as an input. Remove it from the stage's inputs, or run the "
            "stage here: leave its `host` out of `resources`."
        )
    digests |= _by_links(digests)
    stats = {path: path.stat() for path in digests}
    return [
        {
            "path": path.as_posix(),
            "digest": digest,
            "size": stats[path].st_size,
            "executable": bool(stats[path].st_mode & 0o100),
        }
        for path, digest in sorted(digests.items())
    ]
