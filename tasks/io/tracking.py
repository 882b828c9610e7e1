"""MLflow, told the truth and never waited for.

Every run is written to a spool first (`.ratchet/spool/<id>.jsonl`, one event a line) and carried to MLflow by one thread in
batches: a flow carries the runs of its stages, a stage on its own carries itself. An outage costs nothing but time: what could
not be carried waits in the spool for the next process. A spool whose owner is gone without a last word belongs to a killed
process, and its run is closed as KILLED.
"""

import atexit
import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]

SPOOL = Path(".ratchet/spool")
EXPERIMENT = "ratchet"
PARENT = "RATCHET_PARENT"
"""The environment variable by which a flow tells its stages the id of its run, and that it carries theirs."""
EVERY_S = 5.0
"""Metrics reach MLflow at most this much later."""
PATIENCE_S = 30.0
"""How long the end of a run waits for its last batch. What is late stays in the spool."""


def uri() -> str:
    """Where runs are recorded: `MLFLOW_TRACKING_URI`, else `mlflow.db` of this workspace, which plain `mlflow ui` reads."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def check() -> None:
    """Raise ValueError where the store is a local database that cannot be written.

    A remote store that does not answer is an outage, not a mistake: runs are spooled until it does.
    """
    if not uri().startswith("sqlite:///"):
        return
    path = Path(uri().removeprefix("sqlite:///"))
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_S)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.Error as error:
        raise ValueError(
            f"{path}: MLflow cannot record runs here ({error}). Make the file writable, move it aside, "
            "or name another store in MLFLOW_TRACKING_URI."
        ) from None


class Recorder:
    """One MLflow run. Recording never raises; what MLflow does not take now it gets later."""

    def __init__(self, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        self.id = uuid.uuid4().hex
        """Our name of the run (tag `ratchet.run`), valid as `parent` of others before MLflow has heard of it."""
        SPOOL.mkdir(parents=True, exist_ok=True)
        self._path = SPOOL / f"{self.id}.jsonl"
        self._file = self._path.open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held while this process lives: others leave the spool alone
        self._write("start", name=name, parent=parent, tags=dict(tags or {}) | {"ratchet.run": self.id})
        self._carried_here = parent is None or parent != os.environ.get(PARENT)
        if self._carried_here:
            _carrier.add(self._path)

    def params(self, **values: Any) -> None:
        """Record settings and facts; MLflow keeps the first value of a name."""
        self._write("params", values={name: str(value)[:6000] for name, value in values.items()})

    def tags(self, **values: str) -> None:
        """Set tags. A dot in a tag's name is written as two underscores: `dvc__stage` sets `dvc.stage`."""
        self._write("tags", values={name.replace("__", "."): str(value) for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics of one moment."""
        self._write("metrics", values={name: float(value) for name, value in values.items()}, step=step or 0)

    def datasets(self, digests: Mapping[str, str]) -> None:
        """Record the inputs of the run: path → DVC's hash of it. No data is read."""
        self._write("datasets", values=dict(digests))

    def end(self, status: Status, *, wait: bool = True) -> None:
        """Close the run. With `wait`, MLflow has heard everything when this returns, or is out of reach."""
        self._write("end", status=status)
        self._file.close()
        if wait and self._carried_here:
            _carrier.flush(PATIENCE_S)

    def _write(self, kind: str, **event: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "time": int(time.time() * 1000), **event}) + "\n")
        self._file.flush()


def produced_by(keys: Mapping[str, str]) -> dict[str, str]:
    """The MLflow run that made each stage's present outputs: stage → run id, for the stages where one is known.

    `keys` maps a stage's name to its key (`tasks.settings.key`). Returns nothing while the store is out of reach.
    """
    found: dict[str, str] = {}
    try:
        client, experiment = _client()
        for stage, key in keys.items():
            runs = client.search_runs(
                [experiment], f"tags.`ratchet.key` = '{key}' and attributes.status = 'FINISHED'", max_results=1
            )
            if runs:
                found[stage] = runs[0].info.run_id
    except _outages() as error:
        _log.warning("MLflow (%s) does not answer: %s", uri(), error)
    return found


_log = logging.getLogger(__name__)


def _outages() -> tuple[type[Exception], ...]:
    """What a store that is away, full or locked raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def _client() -> tuple[Any, str]:
    """A client of the store and the id of our experiment. The database is made once, by whoever comes first."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    SPOOL.mkdir(parents=True, exist_ok=True)
    with (SPOOL / "store.lock").open("w") as lock:  # two first-comers would both make the schema
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = mlflow.MlflowClient(uri())
        known = client.get_experiment_by_name(EXPERIMENT)
        return client, known.experiment_id if known else client.create_experiment(EXPERIMENT)


class _Carrier(threading.Thread):
    """Carries the spools of this process, and those that dead processes left, to MLflow."""

    def __init__(self) -> None:
        super().__init__(name="mlflow-carrier", daemon=True)
        self._mine: list[Path] = []
        self._wake, self._idle, self._guard = threading.Event(), threading.Event(), threading.Lock()
        self._warned = False

    def add(self, path: Path) -> None:
        """Carry this spool from now on."""
        with self._guard:
            self._mine.append(path)
            if not self.is_alive():
                self.start()

    def flush(self, patience_s: float) -> None:
        """Return when everything written so far has arrived, when the store is out of reach, or after `patience_s`."""
        self._idle.clear()
        self._wake.set()
        self._idle.wait(patience_s)

    def run(self) -> None:
        for path in sorted(SPOOL.glob("*.jsonl")):
            if _close_if_ownerless(path):
                self._carry(path)
        while True:
            if asked := self._wake.is_set():
                self._wake.clear()
            with self._guard:
                paths = [*self._mine, *_children(self._mine)]
            done = [path for path in paths if self._carry(path)]
            with self._guard:
                self._mine = [path for path in self._mine if path not in done]
            if asked:
                self._idle.set()
            self._wake.wait(EVERY_S)

    def _carry(self, path: Path) -> bool:
        try:
            return _upload(path)
        except _outages() as error:
            if not self._warned:
                _log.warning("MLflow (%s) does not answer; runs wait in %s. %s", uri(), SPOOL, error)
            self._warned = True
            return False


_carrier = _Carrier()


@atexit.register
def _last_call() -> None:
    """Let what was written just before the end arrive too."""
    if _carrier.is_alive():
        _carrier.flush(PATIENCE_S)


def _children(parents: list[Path]) -> list[Path]:
    """Spools of runs whose parent's spool is among `parents`; of a child that was killed, the end is written too."""
    ids = {path.stem for path in parents}
    others = [path for path in sorted(SPOOL.glob("*.jsonl")) if path not in parents]
    found = [path for path in others if next(_events(path, 0), {}).get("parent") in ids]
    for path in found:
        _close_if_ownerless(path)
    return found


def _close_if_ownerless(path: Path) -> bool:
    """Whether the owner of a spool is gone. Where it left no last word, its run ends as KILLED."""
    try:
        spool = path.open("r+", encoding="utf-8")
    except FileNotFoundError:
        return False  # another process has carried it away
    with spool:
        try:
            fcntl.flock(spool, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        text = spool.read()
        if not text:
            return False  # its owner has opened it, and is about to lock it
        whole = text[: text.rfind("\n") + 1]  # a killed writer can leave half a line
        spool.seek(len(whole.encode()))
        spool.truncate()
        if '"kind": "end"' not in whole:
            last = json.loads(whole.splitlines()[-1])["time"] if whole else 0
            spool.write(json.dumps({"kind": "end", "time": last, "status": "KILLED"}) + "\n")
    return True


def _upload(path: Path) -> bool:
    """Send what is new in a spool; True when its run is closed and the spool gone. One process at a time sends a spool."""
    if not path.exists():
        return True
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return _send_news(path)


def _send_news(path: Path) -> bool:
    progress = path.with_suffix(".sent")
    state: dict[str, Any] = json.loads(progress.read_text()) if progress.exists() else {"line": 0, "run": None}
    events = list(_events(path, state["line"]))
    if not events:
        return False
    client, experiment = _client()
    for event in events:
        if event["kind"] == "start":
            state["run"] = _open(client, experiment, event)
    _send(client, state["run"], events)
    state["line"] += len(events)
    if events[-1]["kind"] == "end":
        for file in (path, progress, path.with_suffix(".lock")):
            file.unlink(missing_ok=True)
        return True
    partial = progress.with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.replace(progress)
    return False


def _events(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """The whole lines of a spool from line `start` on; none where another process has carried it away."""
    try:
        spool = path.open(encoding="utf-8")
    except FileNotFoundError:
        return
    with spool:
        for number, line in enumerate(spool):
            if number >= start and line.endswith("\n"):
                yield json.loads(line)


def _open(client: Any, experiment: str, event: dict[str, Any]) -> str:
    """The MLflow run of a `start` event, made unless an earlier, interrupted attempt made it."""
    tags = dict(event["tags"])
    if made := _find(client, experiment, tags["ratchet.run"]):
        return made
    if event["parent"]:
        tags["ratchet.parent"] = event["parent"]
        if parent := _find(client, experiment, event["parent"]):
            tags["mlflow.parentRunId"] = parent
    run = client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
    # Children that came first, while their parent waited in a spool of its own, are adopted now.
    for child in client.search_runs([experiment], f"tags.`ratchet.parent` = '{tags['ratchet.run']}'"):
        client.set_tag(child.info.run_id, "mlflow.parentRunId", run.info.run_id)
    return run.info.run_id


def _find(client: Any, experiment: str, own_id: str) -> str | None:
    runs = client.search_runs([experiment], f"tags.`ratchet.run` = '{own_id}'", max_results=1)
    return runs[0].info.run_id if runs else None


def _send(client: Any, run: str, events: list[dict[str, Any]]) -> None:
    """Batches of what happened to a run, then its end."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    def of(kind: str) -> list[dict[str, Any]]:
        return [event for event in events if event["kind"] == kind]

    metrics = [Metric(n, v, e["time"], e["step"]) for e in of("metrics") for n, v in e["values"].items()]
    params = [Param(n, v) for e in of("params") for n, v in e["values"].items()]
    tags = [RunTag(n, v) for e in of("tags") for n, v in e["values"].items()]
    for start in range(0, len(metrics), 1000):
        _offer(lambda some: client.log_batch(run, metrics=some), metrics[start : start + 1000])
    for start in range(0, len(params), 100):
        _offer(lambda some: client.log_batch(run, params=some), params[start : start + 100])
    if tags:
        _offer(lambda some: client.log_batch(run, tags=some), tags)
    inputs = [
        DatasetInput(Dataset(name=name, digest=digest[:36], source_type="dvc", source=json.dumps({"path": name})), [])
        for event in of("datasets")
        for name, digest in event["values"].items()
    ]
    if inputs:
        _offer(lambda some: client.log_inputs(run, datasets=some), inputs)
    for event in of("end"):
        client.set_terminated(run, event["status"], end_time=event["time"])


def _offer(send: Callable[[list[Any]], None], values: list[Any]) -> None:
    """Send values together; one by one where MLflow refuses some, so that only those are lost, and said to be."""
    from mlflow.exceptions import MlflowException

    try:
        send(values)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise  # an outage: all of it goes again later
        if len(values) == 1:
            _log.warning("MLflow refuses %s", error)
            return
        for value in values:
            _offer(send, [value])
