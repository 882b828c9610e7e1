"""Recording of MLflow runs and traces without waiting for MLflow.

Every run, and the traces of a process without one, are written to a spool (`.ratchet/spool/<id>.jsonl`, one event a line), which the uploader (`tasks.io.runs.spool_uploader`) sends to
MLflow. So no stage pays for MLflow's import, and an outage loses nothing: events that could not be sent wait in the spool for the
next uploader.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TextIO

from tasks.core import environment
from tasks.core.text.calls import Call
from tasks.core.text.visible import storable
from tasks.io.runs import run_store, spool_uploader
from tasks.io.runs.run_store import SPOOL
from tasks.io.runs.traces import wanted
from tasks.io.system import git, progress

Status = Literal["FINISHED", "FAILED", "KILLED"]

LARGEST = 2**22
"""Bytes of a spool of traces, after which another one begins: the uploader reads each from its beginning."""
LONGEST_TAG = 8000
"""Characters that MLflow takes of a tag."""
WITH_A_FILE = "artifact"
"""The one kind of event that another machine cannot hand over: files stay where they were made."""

OWN_ID = re.compile("[0-9a-f]{32}")
"""Our id of a run."""

_log = logging.getLogger(__name__)


class _Spool:
    """Events on their way to MLflow: its uploader takes them, as long as this is open and to its end. Once it has begun, nothing raises."""

    def __init__(self, identity: str, kind: str, **event: Any) -> None:
        """Begin it with an event."""
        SPOOL.mkdir(parents=True, exist_ok=True)
        self.path = SPOOL / f"{identity}.jsonl"
        self._one_at_a_time = threading.Lock()  # a training and the system metrics of its stage write from two threads
        with _begun(self.path) as self._file:
            self.write(kind, **event)

    def write(self, kind: str, **event: Any) -> None:
        """Add an event."""
        try:
            with self._one_at_a_time:
                self._file.write(_line({"kind": kind, "time": _now(), **event}))
                self._file.flush()
        except OSError as error:  # what makes the disk full is told by the work itself, if it does not end before
            _log.warning("%s: events for MLflow cannot be written: %s", self.path, error)

    def trace(self, caller: str, call: Call) -> None:
        """Add a call of a model."""
        self.write("trace", **_traced(caller, call))

    def end(self, status: Status) -> None:
        """Add its end, and close it."""
        self.write("end", status=status)
        with contextlib.suppress(OSError):  # the disk is full: `write` has said so
            self._file.close()

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._file.tell()


class Recorder:
    """One MLflow run. Once it has begun, recording never raises; what MLflow does not take now is sent later."""

    def __init__(self, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        self.id = uuid.uuid4().hex
        """Our id of the run (tag `ratchet.run`), valid as `parent` of others before MLflow knows the run."""
        begin = {"name": name, "parent": parent, "tags": dict(tags or {}) | {"ratchet.run": self.id}}
        self._spool = _Spool(self.id, "start", **begin)
        self._path, self._write = self._spool.path, self._spool.write
        # A flow's uploader takes the runs of its stages too, and one of their own would end with the stage.
        self._is_first = parent is None  # said once, not by every child
        self._starts_uploader = parent is None or parent != os.environ.get(environment.PARENT_RUN)
        self._start_uploader()

    def params(self, **values: Any) -> None:
        """Record settings and facts; MLflow keeps the first value of a name."""
        self._write("params", values={name: str(value)[:6000] for name, value in values.items()})

    def tags(self, **values: str) -> None:
        """Set tags. A dot in a tag's name is written as two underscores: `dvc__stage` sets `dvc.stage`."""
        self._write("tags", values={name.replace("__", "."): str(value) for name, value in values.items()})

    def rename(self, name: str) -> None:
        """Give the run another name than it began with."""
        self.tags(mlflow__runName=name)

    def describe(self, text: str) -> None:
        """Set the description that MLflow's page of the run begins with, in Markdown."""
        self.tags(mlflow__note__content=text[:LONGEST_TAG])

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of one moment."""
        self._write("metrics", values={name: float(value) for name, value in values.items()}, step=step or 0)

    def model(
        self, name: str, candidate: str, metrics: Mapping[str, float], dataset: Mapping[str, str] | None = None
    ) -> None:
        """Record a model as the output of the run, with figures of both; `candidate` is the hash of its files.

        `dataset` is what it was measured on: path → DVC's hash of it, of one path.
        """
        values = {metric: float(value) for metric, value in metrics.items()}
        now = _now()  # MLflow takes a figure of one moment once, however often it is sent
        self._write("metrics", values=values, step=0, time=now)
        self._write("model", name=name, candidate=candidate, metrics=values, dataset=dict(dataset or {}), time=now)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file as an artifact of the run, in this folder of its artifacts. A copy is sent: stages replace their files."""
        copy = self._path.with_suffix(spool_uploader.ARTIFACTS) / folder / path.name
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        except OSError as error:
            _log.warning("%s: cannot be copied for MLflow: %s", path, error)
            return
        self._write("artifact", name=path.name, folder=folder)

    def datasets(self, digests: Mapping[str, str]) -> None:
        """Record the inputs of the run: path → DVC's hash of it. No data is read."""
        self._write("datasets", values=dict(digests))

    def made_by(self, stage: str, key: str) -> None:
        """Tag the run with the one that made this stage's outputs from these inputs (`ratchet.produced_by`), where MLflow has it.

        `key` is that of the stage (`tasks.configuration.key`). The uploader looks, so that this process needs no MLflow.
        """
        self._write("maker", stage=stage, key=key)

    def trace(self, caller: str, call: Call) -> None:
        """Record a call of a model that the run made, as a trace of it."""
        self._spool.trace(caller, call)

    def end(self, status: Status, *, wait: bool = False) -> None:
        """Close the run. With `wait`, MLflow has received all its events when this returns, or is out of reach."""
        self._spool.end(status)
        self._start_uploader()
        if wait:
            spool_uploader.wait_for([self._path, *spool_uploader.children(self.id)])
        if self._is_first:
            _tell_outage()
            _tell_refused()

    def _start_uploader(self) -> None:
        if self._starts_uploader:
            _start_uploader()


class Traces:
    """Traces of a process without a run: of a chat, or of a server. Recording never raises; what MLflow does not take now is sent later."""

    def __init__(self, caller: str) -> None:
        self._caller = caller
        self._spool: _Spool | None = None
        self._has_told = False

    def record(self, call: Call) -> None:
        """Record a call of a model. An outage is told once."""
        try:
            if self._spool is None:
                self._spool = _Spool(uuid.uuid4().hex, "trace", **_traced(self._caller, call))
            else:
                self._spool.trace(self._caller, call)
            if self._spool.size > LARGEST:
                self._end_spool()
        except OSError as error:
            _log.warning("%s: a trace cannot be kept: %s", SPOOL, error)
        _start_uploader()
        self._has_told = self._has_told or _tell_outage()

    def end(self) -> None:
        """Let the uploader take the last of them."""
        self._end_spool()
        self._has_told = self._has_told or _tell_outage()

    def _end_spool(self) -> None:
        if self._spool:
            self._spool.end("FINISHED")
            self._spool = None


def traces(caller: str) -> Traces | None:
    """Return what records the traces of a command; None where they are off. Says that they are on, since they hold what is typed."""
    if not wanted(caller):
        return None
    progress.say(
        f"Prompts and answers are sent to MLflow ({run_store.shown()}), since {environment.TRACES} names {caller}."
    )
    return Traces(caller)


def _traced(caller: str, call: Call) -> dict[str, Any]:
    """Return the event of a call."""
    return {"caller": caller, "id": uuid.uuid4().hex, "call": asdict(call)}


def _start_uploader() -> None:
    if not spool_uploader.lives():
        with contextlib.suppress(OSError):  # the disk is full, say: the next run's uploader takes this one too
            spool_uploader.start()


def _tell_outage() -> bool:
    """Say why the store took nothing the last time, and return whether there was something to say."""
    condition = spool_uploader.outage()
    if condition:
        progress.say(f"MLflow ({run_store.shown()}) {condition}")
    return bool(condition)


def _tell_refused() -> None:
    """Say which runs MLflow did not take whole."""
    if paths := spool_uploader.refused():
        progress.say(
            f"MLflow did not take all of {len(paths)} run{'s' * (len(paths) > 1)}: {spool_uploader.LOG} says why. "
            f"What it did not take is kept: {', '.join(map(str, paths))}. Remove what you do not need."
        )


class Relay:
    """Records here what a stage records on another machine, event by event as it comes. A flow's uploader takes it to MLflow."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        """`tags` are set on each run, in place of those of the other machine."""
        self._tags = dict(tags)
        self._spools: dict[str, TextIO] = {}

    def take(self, run: str, line: str) -> None:
        """Take one line of the spool of a run. Events that go with a file are left out: it stays where it was made."""
        event = json.loads(line)
        if not is_portable(event) or OWN_ID.fullmatch(run) is None:
            return
        try:
            if run in self._spools:
                print(_line(event), end="", file=self._spools[run], flush=True)
            elif event["kind"] == "start":
                SPOOL.mkdir(parents=True, exist_ok=True)
                event["tags"] |= self._tags
                with _begun(SPOOL / f"{run}.jsonl") as self._spools[run]:
                    print(_line(event), end="", file=self._spools[run], flush=True)
        except OSError as error:
            _log.warning("%s: events for MLflow cannot be written: %s", SPOOL, error)

    def close(self) -> None:
        """Let go of the runs: one that has not ended by then was killed."""
        for spool in self._spools.values():
            with contextlib.suppress(OSError):  # the disk is full: `take` has said so
                spool.close()


@contextlib.contextmanager
def _begun(path: Path) -> Iterator[TextIO]:
    """Yield the open file of a new spool, which the uploader sees once the block has written its first event."""
    unseen = path.with_suffix(".new")
    with spool_uploader.birth():
        file = unseen.open("w", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)  # tells the uploader that the run goes on
        yield file
        unseen.rename(path)


def is_portable(event: Any) -> bool:
    """Return True if another machine may hand an event over."""
    return spool_uploader.is_event(event) and event["kind"] != WITH_A_FILE


def _line(event: Mapping[str, Any]) -> str:
    """Return an event as a line of a spool, with texts that every store takes."""
    return json.dumps(_storable(event)) + "\n"


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(name): _storable(part) for name, part in value.items()}
    return [_storable(part) for part in value] if isinstance(value, list | tuple) else value


def _now() -> int:
    """Return the time in ms."""
    return int(time.time() * 1000)


def source(command: str) -> dict[str, str]:
    """Return the tags that tell where a run comes from: its command (MLflow's column Source) and git's commit (Version)."""
    return {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"} | source_of_code()


def source_of_code() -> dict[str, str]:
    """Return the tags that tell git's commit."""
    commit = git.commit()
    return {"git.commit": commit} | ({} if commit == "none" else {"mlflow.source.git.commit": commit})


def produced_by(keys: Mapping[str, str]) -> dict[str, str]:
    """Map each stage to the id of the MLflow run that made its present outputs, where one is known.

    `keys` maps a stage's name to its key (`tasks.configuration.key`). Returns nothing while the store is out of reach.
    """
    run_ids: dict[str, str] = {}
    try:
        client, experiment = run_store.connect()
        for stage, key in keys.items():
            if run := run_store.maker(client, experiment, stage, key):
                run_ids[stage] = run
    except run_store.outages() as error:
        _log.info("MLflow (%s) does not answer: %s", run_store.shown(), error)  # the end of the run says so
    return run_ids


def known(runs: Iterable[str]) -> set[str]:
    """Return those of our run ids that MLflow has or will get from the spool. Raises ConnectionError if it does not answer."""
    names = list(runs)
    try:
        client, experiment = run_store.connect()
        return {
            name for name in names if (SPOOL / f"{name}.jsonl").exists() or run_store.find(client, experiment, name)
        }
    except run_store.outages() as error:
        raise ConnectionError(f"MLflow ({run_store.shown()}) does not answer: {run_store.reason(error)}") from None


def adopt(runs: Mapping[str, bytes]) -> None:
    """Put runs that another machine has spooled into this spool, by our ids; the uploader takes them as those of a process that ended."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    for name, events in runs.items():
        unseen = SPOOL / f"{name}.new"
        with spool_uploader.birth():
            unseen.write_bytes(events)
            unseen.rename(unseen.with_suffix(".jsonl"))


def hand_in(runs: Mapping[str, list[dict[str, Any]]]) -> None:
    """Record runs of another machine, by our ids, each with all its events. MLflow has them when this returns."""
    adopt({name: "".join(map(_line, events)).encode() for name, events in runs.items()})
    spool_uploader.upload()
    spool_uploader.wait_for([SPOOL / f"{name}.jsonl" for name in runs])  # where another process uploads
