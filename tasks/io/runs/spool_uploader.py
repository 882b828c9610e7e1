"""The uploader: the one process of a workspace that sends spooled runs and traces to MLflow, in batches (`python -m tasks.io.runs.spool_uploader`).

A process that begins a run (`tasks.io.runs.tracking`) starts the uploader if none is running, and the uploader ends when no process records any
more. If the owner of a spool ended without closing its run, it was killed, and the run is closed as KILLED.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tasks.core.imports import lasting, without
from tasks.core.text.calls import Call
from tasks.io.runs import logged_models, run_store, traces
from tasks.io.runs.run_store import SPOOL
from tasks.io.system import files, locks, logs

EVERY_S = 5.0
"""Seconds after which metrics reach MLflow at the latest."""
LINGER_S = 5.0
"""Seconds for which the uploader stays when no process records. The next stage of a `dvc repro` begins sooner, even on a busy machine, so it need not start
another uploader, which costs three CPU-seconds."""
PACE_S = 0.1
LOCK = "uploader.lock"
LOG = SPOOL.parent / "logs" / "uploader.log"
"""The file of the uploader's console output."""

ARTIFACTS = ".artifacts"
"""Suffix of the folder beside a spool, which holds the files that belong to its events."""

EVENTS = {
    "start": {"name", "parent", "tags"},
    "params": {"values"},
    "tags": {"values"},
    "metrics": {"values", "step"},
    "datasets": {"values"},
    "model": {"name", "candidate", "metrics"},
    "artifact": {"name", "folder"},
    "maker": {"stage", "key"},
    "trace": {"caller", "id", "call"},
    "end": {"status"},
}
"""The kinds of events in a spool, each with its fields beside the time."""

OPTIONAL = ("pandas", "polars")
"""Libraries that MLflow imports for kinds of data sets that are never logged here. They take an eighth of the CPU time of an uploader's start."""
_DAMAGED: dict[str, Any] = {"kind": "damaged", "time": 0}
_log = logging.getLogger(__name__)
_started: list[
    subprocess.Popen[bytes]
] = []  # kept, because Python warns if the object is deleted while the process runs


def upload(handed_over: TextIO | None = None) -> None:
    """Send the spools until no process records any more, unless another process does. The starter may pass the lock, open and held."""
    lock = handed_over
    while lock := lock or _locked():
        with lock:
            _outage_note().unlink(missing_ok=True)
            _upload_while_written()
        lock = None
        # A process that has just begun or ended a run saw the lock held, and started no uploader.
        if outage() or not any(SPOOL.glob("*.jsonl")):
            return


@contextlib.contextmanager
def birth() -> Iterator[None]:
    """Hold a shared lock while a spool is created as `.new`, so that it is not taken for the leftover of a killed process."""
    with (SPOOL / "birth.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _sweep() -> None:
    """Remove spools whose owner was killed before they got their final name."""
    with (SPOOL / "birth.lock").open("w") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in SPOOL.glob("*.new"):
            path.unlink()


def _upload_while_written() -> None:
    due, tried, ended, last_news = 0.0, set[Path](), set[Path](), time.monotonic()
    while SPOOL.is_dir():
        spools = sorted(SPOOL.glob("*.jsonl"))
        ended = {path for path in spools if path in ended or _close_if_ownerless(path)}
        news = ended - tried
        if time.monotonic() >= due or news:
            deliver()
            due, tried = time.monotonic() + EVERY_S, ended
        if news or ended != set(spools):
            last_news = time.monotonic()
        elif time.monotonic() - last_news > LINGER_S:
            return
        time.sleep(PACE_S)


def deliver() -> None:
    """Send the new events of every spool, or record why they cannot be sent. A store that is away is tried once, not for every spool."""
    _sweep()
    for path in sorted(SPOOL.glob("*.jsonl"), key=_begun):  # a run that made outputs before the run that refers to it
        try:
            _send_news(path)
        except run_store.outages() as error:
            if run_store.is_refusal(error):
                _set_aside(path, error)
                continue
            _outage_note().write_text(run_store.condition(error))
            return
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # an event that cannot be interpreted
            _set_aside(path, error)
    _outage_note().unlink(missing_ok=True)


def _set_aside(path: Path, error: Exception) -> None:
    """Set a spool aside that MLflow will never accept, such as the rest of a run that was deleted there, so that it does not block later spools."""
    _log.warning("Not all of %s can be sent to MLflow, and it is kept as .refused: %s", path.name, repr(error))
    path.with_suffix(".sent").unlink(missing_ok=True)
    path.rename(path.with_suffix(".refused"))


def start() -> None:
    """Start the uploader, unless one is running. It survives this process and a Ctrl-C. It holds the lock from its first moment,
    so that a flow that begins twenty runs in a second starts only one uploader."""
    lock = _locked()
    if lock is None:
        return
    ours = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])}
    with lock, logs.append(LOG) as log:
        _started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tasks.io.runs.spool_uploader", str(lock.fileno())],
                pass_fds=[lock.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,  # a reader of our output must not wait for the end of the uploader's
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )


def _locked() -> TextIO | None:
    """Take the lock that a running uploader holds; None if another process has it. It is held until it is closed here
    and in the process to which it was passed."""
    SPOOL.mkdir(parents=True, exist_ok=True)
    lock = (SPOOL / LOCK).open("w")
    if locks.seized(lock):
        return lock
    lock.close()
    return None


def lives() -> bool:
    """Return True if an uploader runs in this workspace."""
    try:
        with (SPOOL / LOCK).open() as lock:
            return locks.in_use(lock)
    except FileNotFoundError:
        return False


def wait_for(spools: list[Path]) -> None:
    """Wait until these spools have been uploaded, until the store is out of reach, or for `run_store.PATIENCE_S` without progress."""
    waiting, deadline = len(spools), time.monotonic() + run_store.PATIENCE_S
    while waiting and not outage() and time.monotonic() < deadline:
        time.sleep(PACE_S / 2)
        still = sum(path.exists() for path in spools)
        if (
            still < waiting
        ):  # while a slow store accepts one spool after the other, the wait goes on, however many there are
            waiting, deadline = still, time.monotonic() + run_store.PATIENCE_S


def children(parent: str) -> list[Path]:
    """Return the spools of a run's children."""
    spools = []
    for path in SPOOL.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # it has just been uploaded
            if next(_events(path, 0), {}).get("parent") == parent:
                spools.append(path)
    return spools


def _begun(spool: Path) -> int:
    """Return the start time of a spool's run, in milliseconds."""
    return next(_events(spool, 0), _DAMAGED)["time"] or 0


def _outage_note() -> Path:
    return SPOOL / "outage.txt"


def refused() -> list[Path]:
    """Return the spools that were set aside."""
    return sorted(SPOOL.glob("*.refused"))


def outage() -> str:
    """Return the reason why the store did not accept the last delivery, as the predicate of a sentence; empty if it did."""
    try:
        return _outage_note().read_text()
    except FileNotFoundError:
        return ""


def _close_if_ownerless(path: Path) -> bool:
    """Return True if the owner of a spool has exited. If its run was not closed, close it as KILLED."""
    with path.open("rb+") as spool:
        try:
            fcntl.flock(spool, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        text = spool.read()
        complete_lines = text[: text.rfind(b"\n") + 1]  # a killed process can leave half a line
        spool.seek(len(complete_lines))
        spool.truncate()
        events = [_event(line) for line in complete_lines.splitlines()]
        if not _has_ended(events):
            last = events[-1]["time"] if events else 0
            spool.write(json.dumps({"kind": "end", "time": last, "status": "KILLED"}).encode() + b"\n")
    return True


def _send_news(path: Path) -> None:
    """Send the new events of a spool, and remove the spool of a closed run. The uploader's lock excludes other processes.

    Raises ValueError at the end of a spool with events that could not be sent.
    """
    progress = path.with_suffix(".sent")
    state: dict[str, Any] = {"line": 0, "run": None, "lost": []}
    if progress.exists():
        state |= json.loads(progress.read_text())
    events = list(_events(path, state["line"]))
    if not events:
        return
    client, experiment = run_store.connect()
    for event in events:
        if event["kind"] == "start":
            state["run"] = _open(client, experiment, event)
    _send_traces(experiment, state["run"], events)
    if state["run"]:
        _send(client, experiment, state["run"], events, path.with_suffix(ARTIFACTS))
    state["lost"] += [state["line"] + n for n, event in enumerate(events, 1) if _is_lost(event, state["run"])]
    state["line"] += len(events)
    if _has_ended(events):
        if state["lost"]:
            raise ValueError(
                f"lines of it that are damaged, or of a run without a start: {len(state['lost'])}, the first is line {state['lost'][0]}"
            )
        progress.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(ARTIFACTS), ignore_errors=True)
        path.unlink()
        return
    files.write_atomically(progress, json.dumps(state))


def _events(path: Path, start: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a spool from line `start` to the last complete line."""
    with path.open("rb") as spool:
        for number, line in enumerate(spool):
            if number >= start and line.endswith(b"\n"):
                yield _event(line)


def _event(line: bytes) -> dict[str, Any]:
    """Parse one line of a spool. A damaged line becomes an event that is skipped, so that it blocks nothing. Its spool is kept."""
    try:
        event = dict(json.loads(line))
        return event if is_event(event) else _DAMAGED
    except (ValueError, TypeError):
        return _DAMAGED


def is_event(event: dict[str, Any]) -> bool:
    """Return True if an event is of a known kind and has the fields of that kind."""
    parts = EVENTS.get(event.get("kind", ""))
    return parts is not None and {"time", *parts} <= event.keys() and isinstance(event["time"], int | None)


def _is_lost(event: dict[str, Any], run: str | None) -> bool:
    """Return True if an event is not sent, because it is damaged or belongs to a run that was never started."""
    return event["kind"] == "damaged" or (run is None and event["kind"] not in ("trace", "end"))


def _has_ended(events: list[dict[str, Any]]) -> bool:
    return any(event["kind"] == "end" for event in events)


def _open(client: Any, experiment: str, event: dict[str, Any]) -> str:
    """Return the MLflow run of a `start` event, created unless an earlier, interrupted attempt did."""
    tags = dict(event["tags"])
    if existing := run_store.find(client, experiment, tags["ratchet.run"]):
        return existing
    if event["parent"]:
        tags["ratchet.parent"] = event["parent"]
        if parent := run_store.find(client, experiment, event["parent"]):
            tags["mlflow.parentRunId"] = parent
    run = client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
    # Children that were sent earlier, while the spool of their parent waited, are adopted now.
    for child in client.search_runs([experiment], f"tags.`ratchet.parent` = '{tags['ratchet.run']}'"):
        client.set_tag(child.info.run_id, "mlflow.parentRunId", run.info.run_id)
    return run.info.run_id


def _send(client: Any, experiment: str, run: str, events: list[dict[str, Any]], artifacts: Path) -> None:
    """Send the events of a run in batches, with its end last. `artifacts` is the folder with its files."""
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
    for event in of("model"):
        _offer(lambda some: logged_models.record(client, experiment, run, some[0]), [event])
    for event in of("artifact"):
        if (
            artifact := artifacts / event["folder"] / event["name"]
        ).is_file():  # otherwise the spool was removed by hand
            client.log_artifact(run, str(artifact), event["folder"] or None)
    for event in of("maker"):
        if producer := run_store.maker(client, experiment, event["stage"], event["key"]):
            client.set_tag(run, "ratchet.produced_by", producer)
    for event in of("end"):
        client.set_terminated(run, event["status"], end_time=event["time"])


def _send_traces(experiment: str, run: str | None, events: list[dict[str, Any]]) -> None:
    """Send the calls of models among the events of a run, or of a process without a run."""

    def send(some: list[dict[str, Any]]) -> None:
        for event in some:
            traces.send(experiment, run, event["caller"], event["id"], Call(**event["call"]))

    calls = [event for event in events if event["kind"] == "trace"]
    if not calls:
        return
    try:
        _offer(send, calls)
    except NotImplementedError:
        _log.warning(
            "%d calls of models are in no trace: this MLflow server takes none, and one of MLflow 3.4 does.", len(calls)
        )


def _offer(send: Callable[[list[Any]], None], values: list[Any]) -> None:
    """Send values together. If MLflow refuses some, send them one by one, so that only the refused ones are lost, and report these."""
    from mlflow.exceptions import MlflowException

    try:
        send(values)
    except MlflowException as error:
        if not run_store.is_refusal(error):
            raise  # an outage: everything is sent again later
        if len(values) == 1:
            _log.warning("MLflow refuses %s", error)
            return
        for value in values:
            _offer(send, [value])


def main(arguments: list[str]) -> None:
    """Upload as the one process of the workspace. The argument is the file descriptor of the lock, if it is passed on."""
    signal.signal(
        signal.SIGTERM, signal.SIG_DFL
    )  # the process that started it may be ending by the same signal, which is sent only once
    if arguments:  # the process is busy and has one thread
        with lasting(), without(*OPTIONAL):
            import mlflow  # noqa: F401
    upload(os.fdopen(int(arguments[0]), "w") if arguments else None)


if __name__ == "__main__":
    main(sys.argv[1:])
