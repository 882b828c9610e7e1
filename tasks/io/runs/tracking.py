"""Recording of MLflow runs without waiting for MLflow.

Every run is written to a spool (`.ratchet/spool/<id>.jsonl`, one event a line), which the uploader (`tasks.io.runs.spool_uploader`) sends to
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
from pathlib import Path
from typing import Any, Literal, TextIO

from tasks.core import environment
from tasks.io.runs import run_store, spool_uploader
from tasks.io.runs.run_store import SPOOL
from tasks.io.system import git, progress

Status = Literal["FINISHED", "FAILED", "KILLED"]

LONGEST_TAG = 8000
"""Characters that MLflow takes of a tag."""
KINDS = ("start", "params", "tags", "metrics", "datasets", "model", "maker", "end")
"""The events of a run that another machine may hand over; files stay where they were made."""

OWN_ID = re.compile("[0-9a-f]{32}")
"""Our id of a run."""

_log = logging.getLogger(__name__)


class Recorder:
    """One MLflow run. Once it has begun, recording never raises; what MLflow does not take now is sent later."""

    def __init__(self, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        self.id = uuid.uuid4().hex
        """Our id of the run (tag `ratchet.run`), valid as `parent` of others before MLflow knows the run."""
        SPOOL.mkdir(parents=True, exist_ok=True)
        self._path = SPOOL / f"{self.id}.jsonl"
        self._one_at_a_time = threading.Lock()  # a training and the system metrics of its stage write from two threads
        with _begun(self._path) as self._file:
            self._write("start", name=name, parent=parent, tags=dict(tags or {}) | {"ratchet.run": self.id})
        # A flow's uploader takes the runs of its stages too, and one of their own would end with the stage.
        self._is_first = parent is None  # said once, not by every child
        self._carried_here = parent is None or parent != os.environ.get(environment.PARENT_RUN)
        self._see_to_a_carrier()

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
            _log.warning("%s: MLflow gets no copy of it: %s", path, error)
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

    def end(self, status: Status, *, wait: bool = False) -> None:
        """Close the run. With `wait`, MLflow has received all its events when this returns, or is out of reach."""
        self._write("end", status=status)
        with contextlib.suppress(OSError):  # the disk is full: `_write` has said so
            self._file.close()
        self._see_to_a_carrier()
        if wait:
            spool_uploader.wait_for([self._path, *spool_uploader.children(self.id)])
        if self._is_first and (condition := spool_uploader.outage()):
            progress.say(f"MLflow ({run_store.shown()}) {condition}")

    def _see_to_a_carrier(self) -> None:
        if self._carried_here and not spool_uploader.lives():
            with contextlib.suppress(OSError):  # the disk is full, say: the next run's uploader takes this one too
                spool_uploader.start()

    def _write(self, kind: str, **event: Any) -> None:
        try:
            with self._one_at_a_time:
                self._file.write(json.dumps({"kind": kind, "time": _now(), **event}) + "\n")
                self._file.flush()
        except OSError as error:  # what makes the disk full is told by the work itself, if it does not end before
            _log.warning("%s: what MLflow should hear cannot be kept: %s", self._path, error)


class Relay:
    """Records here what a stage records on another machine, event by event as it comes. A flow's uploader takes it to MLflow."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        """`tags` are set on each run, in place of those of the other machine."""
        self._tags = dict(tags)
        self._spools: dict[str, TextIO] = {}

    def take(self, run: str, line: str) -> None:
        """Take one line of the spool of a run. Events that go with a file are left out: it stays where it was made."""
        event = json.loads(line)
        if event["kind"] not in KINDS or OWN_ID.fullmatch(run) is None:
            return
        try:
            if run in self._spools:
                print(json.dumps(event), file=self._spools[run], flush=True)
            elif event["kind"] == "start":
                SPOOL.mkdir(parents=True, exist_ok=True)
                event["tags"] |= self._tags
                with _begun(SPOOL / f"{run}.jsonl") as self._spools[run]:
                    print(json.dumps(event), file=self._spools[run], flush=True)
        except OSError as error:
            _log.warning("%s: what MLflow should hear cannot be kept: %s", SPOOL, error)

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


def hand_in(runs: Mapping[str, list[dict[str, Any]]]) -> None:
    """Record runs of another machine, by our ids, each with all its events. MLflow has them when this returns."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    for name, events in runs.items():
        unseen = SPOOL / f"{name}.new"
        with spool_uploader.birth():
            unseen.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
            unseen.rename(unseen.with_suffix(".jsonl"))
    spool_uploader.carry()
    spool_uploader.wait_for([SPOOL / f"{name}.jsonl" for name in runs])  # where another process carries
