"""MLflow, told the truth and never waited for.

Every run is written to a spool (`.ratchet/spool/<id>.jsonl`, one event a line). One process of the workspace, the carrier
(`python -m tasks.io.tracking`), takes spools to MLflow in batches: whoever begins a run starts it where none lives, and it
ends when nobody records any more. So no stage pays for MLflow's import, and an outage costs nothing but time: what could not
be carried waits in the spool for the next carrier. A spool whose owner is gone without a last word belongs to a killed
process, and its run is closed as KILLED.
"""

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]

SPOOL = Path(".ratchet/spool")
KINDS = ("start", "params", "tags", "metrics", "datasets", "end")
"""The events of a run."""
EXPERIMENT = "ratchet"
PARENT = "RATCHET_PARENT"
"""The environment variable by which a flow tells its stages the id of its run, and that it carries theirs."""
STORES = ("sqlite:///", "postgresql", "mysql", "mssql", "http://", "https://", "databricks")
"""What addresses of stores begin with. MLflow keeps no runs in plain folders any more."""
EVERY_S = 5.0
"""Metrics reach MLflow at most this much later."""
LINGER_S = 2.0
"""How long the carrier stays when nobody records: the next stage of a `dvc repro` comes sooner, and saves its own."""
PACE_S = 0.1
PATIENCE_S = 30.0
"""How long the end of a run waits for its last batch. What is late stays in the spool."""


def uri() -> str:
    """Where runs are recorded: `MLFLOW_TRACKING_URI`, else `mlflow.db` of this workspace, which plain `mlflow ui` reads."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def is_new() -> bool:
    """Whether the store is a local database that nobody has made yet."""
    return uri().startswith("sqlite:///") and not Path(uri().removeprefix("sqlite:///")).is_file()


def check() -> None:
    """Raise ValueError where the store is no database or server, or a local database that cannot be written.

    A remote store that does not answer is an outage, not a mistake: runs are spooled until it does.
    """
    if not uri().startswith(STORES):
        kinds = ", ".join(f"{kind}…" for kind in STORES)
        raise ValueError(f"MLFLOW_TRACKING_URI={uri()}: expected a database or a server ({kinds}).")
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
        unseen = self._path.with_suffix(".new")
        self._file = unseen.open("w", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # tells the carrier that the run goes on
        self._write("start", name=name, parent=parent, tags=dict(tags or {}) | {"ratchet.run": self.id})
        unseen.rename(self._path)
        # A flow's carrier takes the runs of its stages too, and one of their own would end with the stage.
        self._is_first = parent is None  # said once, not by every child
        self._carried_here = parent is None or parent != os.environ.get(PARENT)
        self._see_to_a_carrier()

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

    def end(self, status: Status, *, wait: bool = False) -> None:
        """Close the run. With `wait`, MLflow has heard everything when this returns, or is out of reach."""
        self._write("end", status=status)
        self._file.close()
        self._see_to_a_carrier()
        if wait:
            _await([self._path, *_children(self.id)])
        if self._is_first and (reason := _outage()):
            _log.warning("MLflow (%s) does not answer; runs wait in %s. %s", uri(), SPOOL, reason)

    def _see_to_a_carrier(self) -> None:
        if self._carried_here and not _carrier_lives():
            _start_carrier()

    def _write(self, kind: str, **event: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "time": int(time.time() * 1000), **event}) + "\n")
        self._file.flush()


def produced_by(keys: Mapping[str, str]) -> dict[str, str]:
    """The MLflow run that made each stage's present outputs: stage → run id, for the stages where one is known.

    `keys` maps a stage's name to its key (`tasks.settings.key`). Returns nothing while the store is out of reach.
    """
    found: dict[str, str] = {}
    try:
        client, experiment = connect()
        for stage, key in keys.items():  # equal items of a stage have one key
            made = f"tags.`dvc.stage` = '{stage}' and tags.`ratchet.key` = '{key}' and attributes.status = 'FINISHED'"
            runs = client.search_runs([experiment], made, max_results=1)
            if runs:
                found[stage] = runs[0].info.run_id
    except outages() as error:
        _log.info("MLflow (%s) does not answer: %s", uri(), error)  # the end of the run says so
    return found


def known(runs: Iterable[str]) -> set[str]:
    """Which of these runs, by our names of them, MLflow has or will get from the spool. Raises ConnectionError where it is away."""
    names = list(runs)
    try:
        client, experiment = connect()
        return {name for name in names if (SPOOL / f"{name}.jsonl").exists() or _find(client, experiment, name)}
    except outages() as error:
        raise ConnectionError(f"MLflow ({uri()}) does not answer: {str(error).partition(chr(10))[0]}") from None


def hand_in(runs: Mapping[str, list[dict[str, Any]]]) -> None:
    """Record runs that took place elsewhere, by our names of them, each with all its events. MLflow has them when this returns."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    for name, events in runs.items():
        unseen = SPOOL / f"{name}.new"
        unseen.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        unseen.rename(unseen.with_suffix(".jsonl"))
    carry()
    _await([SPOOL / f"{name}.jsonl" for name in runs])  # where another process carries


_log = logging.getLogger(__name__)
_started: list[subprocess.Popen[bytes]] = []  # held, since an object that goes while its process lives is a warning


def outages() -> tuple[type[Exception], ...]:
    """What a store that is away, full or locked raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def connect() -> tuple[Any, str]:
    """A client of the store and the id of our experiment. The database is made once, by whoever comes first."""
    # A server that is away is asked again by the next batch: MLflow's own patience of minutes would hold up every run's end.
    defaults = {"DISABLE_TELEMETRY": "true", "HTTP_REQUEST_MAX_RETRIES": "1", "HTTP_REQUEST_TIMEOUT": "20"}
    for name, value in defaults.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    SPOOL.mkdir(parents=True, exist_ok=True)
    with (SPOOL / "store.lock").open("w") as lock:  # two first-comers would both make the schema
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = mlflow.MlflowClient(uri())
        known = client.get_experiment_by_name(EXPERIMENT)
        # The kind decides which columns and charts MLflow's pages begin with.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return client, known.experiment_id if known else client.create_experiment(EXPERIMENT, tags=kind)


def experiment() -> str:
    """The id under which the store keeps our runs. Raises ConnectionError where the store does not answer."""
    try:
        return connect()[1]
    except outages() as error:
        reason = str(error).partition("\n")[0]
        raise ConnectionError(f"MLflow's store does not answer: {reason}") from None


def carry() -> None:
    """Take the spools of this workspace to MLflow until nobody records any more. Returns at once where another does so."""
    while True:
        with _carrier_lock() as mine:
            if not mine:
                return
            _outage_note().unlink(missing_ok=True)
            _carry_while_written()
        # Whoever began or ended a run just now saw the lock held and started no carrier.
        if _outage() or not any(SPOOL.glob("*.jsonl")):
            return


def _carry_while_written() -> None:
    due, tried, last_news = 0.0, set[Path](), time.monotonic()
    while SPOOL.is_dir():
        spools = sorted(SPOOL.glob("*.jsonl"))
        ended = {path for path in spools if _close_if_ownerless(path)}
        if time.monotonic() >= due or ended - tried:
            _deliver()
            due, tried = time.monotonic() + EVERY_S, ended
            if ended:
                last_news = time.monotonic()
        if ended != set(spools):
            last_news = time.monotonic()
        elif time.monotonic() - last_news > LINGER_S:
            return
        time.sleep(PACE_S)


def _deliver() -> None:
    """Send what is new in every spool, or note why some of it cannot be sent."""
    reason = ""
    for path in sorted(SPOOL.glob("*.jsonl")):
        try:
            _send_news(path)
        except outages() as error:
            reason = str(error)
    if reason:
        _outage_note().write_text(reason)
    else:
        _outage_note().unlink(missing_ok=True)


def _start_carrier() -> None:
    """Start the process that carries; it outlives this one, and a Ctrl-C."""
    ours = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])}
    _started.append(
        subprocess.Popen(
            [sys.executable, "-m", "tasks.io.tracking"],
            env=environment,
            stdin=subprocess.DEVNULL,  # whoever reads our output must not wait for the carrier's
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    )


@contextlib.contextmanager
def _carrier_lock() -> Iterator[bool]:
    """The lock that the carrier holds while it lives; whether this process has it now."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    with (SPOOL / "carrier.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _carrier_lives() -> bool:
    with _carrier_lock() as free:
        return not free


def _await(spools: list[Path]) -> None:
    """Return when these spools have been carried away, when the store is out of reach, or after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while any(path.exists() for path in spools) and not _outage() and time.monotonic() < deadline:
        time.sleep(PACE_S / 2)


def _children(parent: str) -> list[Path]:
    """The spools of a run's children."""
    found = []
    for path in SPOOL.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # carried away just now
            if next(_events(path, 0), {}).get("parent") == parent:
                found.append(path)
    return found


def _outage_note() -> Path:
    return SPOOL / "outage.txt"


def _outage() -> str:
    """Why the store took nothing when the carrier last tried; empty where it did."""
    try:
        return _outage_note().read_text()
    except FileNotFoundError:
        return ""


def _close_if_ownerless(path: Path) -> bool:
    """Whether the owner of a spool is gone. Where it left no last word, its run ends as KILLED."""
    with path.open("r+", encoding="utf-8") as spool:
        try:
            fcntl.flock(spool, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        text = spool.read()
        whole = text[: text.rfind("\n") + 1]  # a killed writer can leave half a line
        spool.seek(len(whole.encode()))
        spool.truncate()
        if '"kind": "end"' not in whole:
            last = json.loads(whole.splitlines()[-1])["time"] if whole else 0
            spool.write(json.dumps({"kind": "end", "time": last, "status": "KILLED"}) + "\n")
    return True


def _send_news(path: Path) -> None:
    """Send what is new in a spool; the spool of a closed run goes. The carrier's lock keeps others out."""
    progress = path.with_suffix(".sent")
    state: dict[str, Any] = json.loads(progress.read_text()) if progress.exists() else {"line": 0, "run": None}
    events = list(_events(path, state["line"]))
    if not events:
        return
    client, experiment = connect()
    for event in events:
        if event["kind"] == "start":
            state["run"] = _open(client, experiment, event)
    if state["run"]:
        _send(client, state["run"], events)
    state["line"] += len(events)
    if events[-1]["kind"] == "end":
        progress.unlink(missing_ok=True)
        path.unlink()
        return
    partial = progress.with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.replace(progress)


def _events(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """The whole lines of a spool from line `start` on."""
    with path.open(encoding="utf-8") as spool:
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


if __name__ == "__main__":
    carry()
