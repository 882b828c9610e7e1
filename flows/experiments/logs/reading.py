"""Read one argument of the command: recognise the kind of a file by its contents, and combine the files of a folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from flows.experiments.logs import harness_logs, inspect_logs, lines, score_lines
from flows.experiments.logs.records import Log, TaskLog
from tasks.io.system.files import missing

INSPECT, HARNESS, LINES = "inspect-ai", "lm-evaluation-harness", "lines of scores"
_WANTED = (
    "Wanted are a log of inspect-ai (.eval or .json), lm-evaluation-harness's samples_*.jsonl or their folder, or lines of JSON "
    'such as {"id": "q1", "score": 1}.'
)
Read = Callable[[Path], dict[str, TaskLog]]


def read(path: Path) -> Log:
    """Return the log at `path`. Raises ValueError if it is none of the three kinds, and FileNotFoundError if nothing is there."""
    if not path.exists():
        raise missing(path)
    files = log_files(path) if path.is_dir() else [path]
    tasks: dict[str, TaskLog] = {}
    sources: dict[str, Path] = {}
    harnesses = set()
    for file in files:
        harness, reader = _reader(file)
        harnesses.add(harness)
        for name, task in reader(file).items():
            if name in tasks:
                raise ValueError(
                    f"{path} holds two logs of task {name or 'without a name'}: {sources[name]} and {file}. Name the file that is meant."
                )
            tasks[name], sources[name] = task, file
    if len(harnesses) > 1:
        raise ValueError(f"{path} holds logs of {' and of '.join(sorted(harnesses))}. Name the file that is meant.")
    return Log(path, harnesses.pop(), tasks, tuple(files), tuple(_sha256(file) for file in files))


def log_files(folder: Path) -> list[Path]:
    """Return the logs below a folder. If there are several kinds, only those of the first kind count. Raises ValueError if there is none."""
    for pattern in ("*.eval", "samples_*.jsonl", "*.json", "*.jsonl"):
        if files := sorted(file for file in folder.rglob(pattern) if not file.name.startswith("results_")):
            return files
    raise ValueError(f"{folder} holds no log. {_WANTED}")


def _reader(path: Path) -> tuple[str, Read]:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise ValueError(f"{path} is empty.")
    if start == b"PK\x03\x04":
        return INSPECT, _named(inspect_logs.read_eval)
    row = lines.first_object(path)
    if row is not None and harness_logs.is_sample(row):
        return HARNESS, _named(harness_logs.read_samples)
    if row is not None and score_lines.has_scores(row):
        return LINES, score_lines.read_scores
    if path.name.startswith("results_"):
        raise ValueError(
            f"{path} is a table of results, without scores of items. Name its folder, or its samples_*.jsonl, which "
            "`lm_eval --log_samples` writes."
        )
    if inspect_logs.is_log(row) or (row is None and path.suffix == ".json"):
        return INSPECT, _named(inspect_logs.read_json)
    raise ValueError(f"{path} is not a readable log. {_WANTED}")


def _named(read_task: Callable[[Path], TaskLog]) -> Read:
    def read_file(path: Path) -> dict[str, TaskLog]:
        task = read_task(path)
        return {task.task: task}

    return read_file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
