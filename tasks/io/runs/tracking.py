"""Record MLflow runs and traces without waiting for MLflow.

Every run, and the traces of a process without a run, are written to a spool (`.ratchet/spool/<id>.jsonl`, one event per line), and the uploader
(`tasks.io.runs.spool_uploader`) sends it to MLflow. So no stage has to import MLflow, and an outage loses nothing: events that could not be sent
wait in the spool for the next uploader.
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
"""Size in bytes at which another spool of traces begins, because the uploader reads each from its start."""
LONGEST_TAG = 8000
"""Largest number of characters of a tag in MLflow."""
WITH_A_FILE = "artifact"
"""The kind of event that cannot come from another machine, because its files stay there."""

OWN_ID = re.compile("[0-9a-f]{32}")
"""Our id of a run."""

_log = logging.getLogger(__name__)


class _Spool:
    """The spool of a run or of traces. The uploader sends its events while it is open and until its end. After the start, nothing raises."""

    def __init__(self, identity: str, kind: str, **event: Any) -> None:
        """Create the spool with a first event."""
        SPOOL.mkdir(parents=True, exist_ok=True)
        self.path = SPOOL / f"{identity}.jsonl"
        self._one_at_a_time = (
            threading.Lock()
        )  # a training and the system metrics of its stage write from different threads
        with _begun(self.path) as self._file:
            self.write(kind, **event)

    def write(self, kind: str, **event: Any) -> None:
        """Add an event."""
        try:
            with self._one_at_a_time:
                self._file.write(_line({"kind": kind, "time": _now(), **event}))
                self._file.flush()
        except OSError as error:  # the work itself reports the full disk, unless it ends first
            _log.warning("%s: events for MLflow cannot be written: %s", self.path, error)

    def trace(self, caller: str, call: Call) -> None:
        """Add a call of a model."""
        self.write("trace", **_traced(caller, call))

    def end(self, status: Status) -> None:
        """Add the end event, and close the spool."""
        self.write("end", status=status)
        with contextlib.suppress(OSError):  # the disk is full, which `write` has reported
            self._file.close()

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._file.tell()


class Recorder:
    """One MLflow run. After its start, recording never raises. Events that MLflow cannot accept now are sent later."""

    def __init__(self, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        self.id = uuid.uuid4().hex
        """Our id of the run (tag `ratchet.run`). It is valid as `parent` of other runs before MLflow knows the run."""
        begin = {"name": name, "parent": parent, "tags": dict(tags or {}) | {"ratchet.run": self.id}}
        self._spool = _Spool(self.id, "start", **begin)
        self._path, self._write = self._spool.path, self._spool.write
        # A flow's uploader also sends the runs of its stages. Their own uploader would end with the stage.
        self._is_first = parent is None  # reported once, not by every child
        self._starts_uploader = parent is None or parent != os.environ.get(environment.PARENT_RUN)
        self._start_uploader()

    def params(self, **values: Any) -> None:
        """Record settings and facts. MLflow keeps the first value of a name."""
        self._write("params", values={name: str(value)[:6000] for name, value in values.items()})

    def tags(self, **values: str) -> None:
        """Set tags. Write two underscores for a dot in the name of a tag: `dvc__stage` sets `dvc.stage`."""
        self._write("tags", values={name.replace("__", "."): str(value) for name, value in values.items()})

    def rename(self, name: str) -> None:
        """Change the name of the run."""
        self.tags(mlflow__runName=name)

    def describe(self, text: str) -> None:
        """Set the description, in Markdown, with which MLflow's page of the run begins."""
        self.tags(mlflow__note__content=text[:LONGEST_TAG])

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of one moment."""
        self._write("metrics", values={name: float(value) for name, value in values.items()}, step=step or 0)

    def model(
        self, name: str, candidate: str, metrics: Mapping[str, float], dataset: Mapping[str, str] | None = None
    ) -> None:
        """Record a model as the output of the run, with figures of both; `candidate` is the hash of its files.

        `dataset` is the data on which it was measured: one path → DVC's hash of it.
        """
        values = {metric: float(value) for metric, value in metrics.items()}
        now = _now()  # MLflow stores a metric of one time once, however often it is sent
        self._write("metrics", values=values, step=0, time=now)
        self._write("model", name=name, candidate=candidate, metrics=values, dataset=dict(dataset or {}), time=now)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file as an artifact of the run, in this folder of its artifacts. A copy is sent, because stages replace their files."""
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
        """Tag the run with the run that made this stage's outputs from these inputs (`ratchet.produced_by`), if MLflow has it.

        `key` is that of the stage (`tasks.configuration.key`). The uploader looks it up, so that this process does not need MLflow.
        """
        self._write("maker", stage=stage, key=key)

    def trace(self, caller: str, call: Call) -> None:
        """Record a call of a model by the run, as a trace."""
        self._spool.trace(caller, call)

    def end(self, status: Status, *, wait: bool = False) -> None:
        """Close the run. With `wait`, return when MLflow has received all events of the run, or is out of reach."""
        self._spool.end(status)
        self._start_uploader()
        if wait:
            spool_uploader.wait_for([self._path, *spool_uploader.children(self.id)])
        if self._is_first:
            _warn_of_outage()
            _tell_refused()

    def _start_uploader(self) -> None:
        if self._starts_uploader:
            _start_uploader()


class Traces:
    """Traces of a process without a run, such as a chat or a server. Recording never raises. Traces that MLflow cannot accept now are sent later."""

    def __init__(self, caller: str) -> None:
        self._caller = caller
        self._spool: _Spool | None = None
        self._has_warned = False

    def record(self, call: Call) -> None:
        """Record a call of a model. An outage is reported once."""
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
        self._has_warned = self._has_warned or _warn_of_outage()

    def end(self) -> None:
        """Close the spool, and let the uploader send the last traces."""
        self._end_spool()
        self._has_warned = self._has_warned or _warn_of_outage()

    def _end_spool(self) -> None:
        if self._spool:
            self._spool.end("FINISHED")
            self._spool = None


def traces(caller: str) -> Traces | None:
    """Return the recorder of a command's traces; None if they are off. Prints that they are on, because they contain what users type."""
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
        with contextlib.suppress(OSError):  # for instance a full disk: the next run's uploader sends this spool too
            spool_uploader.start()


def _warn_of_outage() -> bool:
    """Print why the store accepted nothing the last time, and return True if there was a reason."""
    condition = spool_uploader.outage()
    if condition:
        progress.say(f"MLflow ({run_store.shown()}) {condition}")
    return bool(condition)


def _tell_refused() -> None:
    """Print the runs that MLflow did not accept completely."""
    if paths := spool_uploader.refused():
        progress.say(
            f"MLflow did not take all of {len(paths)} run{'s' * (len(paths) > 1)}: {spool_uploader.LOG} says why. "
            f"What it did not take is kept: {', '.join(map(str, paths))}. Remove what you do not need."
        )


class Relay:
    """Records on this machine the runs of a stage on another machine, event by event. A flow's uploader sends them to MLflow."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        """`tags` are set on each run, in place of the tags of the other machine."""
        self._tags = dict(tags)
        self._spools: dict[str, TextIO] = {}

    def take(self, run: str, line: str) -> None:
        """Take one line of a run's spool. Events with a file are left out, because the file stays on the other machine."""
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
        """Close the spools. A run that has not ended by then was killed."""
        for spool in self._spools.values():
            with contextlib.suppress(OSError):  # the disk is full, which `take` has reported
                spool.close()


@contextlib.contextmanager
def _begun(path: Path) -> Iterator[TextIO]:
    """Yield the open file of a new spool. The uploader sees it after the block has written the first event."""
    unseen = path.with_suffix(".new")
    with spool_uploader.birth():
        file = unseen.open("w", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)  # shows the uploader that the run goes on
        yield file
        unseen.rename(path)


def is_portable(event: Any) -> bool:
    """Return True if an event may come from another machine."""
    return spool_uploader.is_event(event) and event["kind"] != WITH_A_FILE


def _line(event: Mapping[str, Any]) -> str:
    """Return an event as a line of a spool, with texts that every store accepts."""
    return json.dumps(_storable(event)) + "\n"


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(name): _storable(part) for name, part in value.items()}
    return [_storable(part) for part in value] if isinstance(value, list | tuple) else value


def _now() -> int:
    """Return the time in milliseconds."""
    return int(time.time() * 1000)


def source(command: str) -> dict[str, str]:
    """Return the tags with the origin of a run: its command (MLflow's column Source) and the git commit (Version)."""
    return {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"} | source_of_code()


def source_of_code() -> dict[str, str]:
    """Return the tags with the git commit."""
    commit = git.commit()
    return {"git.commit": commit} | ({} if commit == "none" else {"mlflow.source.git.commit": commit})


def produced_by(keys: Mapping[str, str]) -> dict[str, str]:
    """Map each stage to the id of the MLflow run that made its present outputs, if it is known.

    `keys` maps a stage's name to its key (`tasks.configuration.key`). Returns an empty mapping while the store is out of reach.
    """
    run_ids: dict[str, str] = {}
    try:
        client, experiment = run_store.connect()
        for stage, key in keys.items():
            if run := run_store.maker(client, experiment, stage, key):
                run_ids[stage] = run
    except run_store.outages() as error:
        _log.info(
            "MLflow (%s) does not answer: %s", run_store.shown(), error
        )  # a message at the end of the run says so
    return run_ids


def known(runs: Iterable[str]) -> set[str]:
    """Return those of our run ids that MLflow has or will receive from the spool. Raises ConnectionError if it does not answer."""
    names = list(runs)
    try:
        client, experiment = run_store.connect()
        return {
            name for name in names if (SPOOL / f"{name}.jsonl").exists() or run_store.find(client, experiment, name)
        }
    except run_store.outages() as error:
        raise ConnectionError(f"MLflow ({run_store.shown()}) does not answer: {run_store.reason(error)}") from None


def adopt(runs: Mapping[str, bytes]) -> None:
    """Put runs from another machine's spool into this spool, by our ids. The uploader treats them like runs of a process that has ended."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    for name, events in runs.items():
        unseen = SPOOL / f"{name}.new"
        with spool_uploader.birth():
            unseen.write_bytes(events)
            unseen.rename(unseen.with_suffix(".jsonl"))


def hand_in(runs: Mapping[str, list[dict[str, Any]]]) -> None:
    """Record runs of another machine, by our ids, each with all its events, and return when MLflow has them."""
    adopt({name: "".join(map(_line, events)).encode() for name, events in runs.items()})
    spool_uploader.upload()
    spool_uploader.wait_for([SPOOL / f"{name}.jsonl" for name in runs])  # if another process uploads
