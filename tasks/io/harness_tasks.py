"""Items of YAML tasks of lm-evaluation-harness over local rows, read without the harness and without running their code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.core.text import templates
from tasks.io.sources import table
from tasks.io.sources.record import Broken

LOADERS = ("json", "csv", "parquet", "arrow")
"""Values of `dataset_path` that stand for local files, which both `datasets` and `table` read."""


@dataclass(frozen=True)
class Item:
    """An item on which a model is measured."""

    task: str
    where: str
    question: str
    """The text of `doc_to_text`; if that is code, all texts of the row."""
    answer: str
    """The text of `doc_to_target`, for choices the right one; if that is code, empty."""


class _Function(str):
    """The name of a Python function in a task. It is never run."""


class _Loader(yaml.SafeLoader):
    """Reads the YAML of tasks."""


def _function(loader: Any, node: Any) -> _Function:
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _function)


def items(folder: Path, names: Sequence[str] = ()) -> Iterator[Item | Broken]:
    """Yield the items, by file, of the tasks with these names, or of all tasks below a folder. Paths in tasks are relative to the workspace.

    Raises ValueError for a missing task, and for one whose rows are not local.
    """
    tasks = {str(task["task"]): task for task in _tasks(folder)}
    for name in names or tasks:
        if name not in tasks:
            raise ValueError(f"{folder}: there is no task {name!r}. There are: {', '.join(tasks) or 'none'}.")
        for path in _files(name, tasks[name]):
            for record in table.rows(path):
                if isinstance(record, Broken):
                    yield record
                else:
                    row = record.values
                    yield Item(name, record.where, _question(tasks[name], row), _answer(tasks[name], row))


def _tasks(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the tasks below a folder, with their includes. Groups have no items of their own."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder of tasks.")
    for path in sorted(file for file in folder.rglob("*") if file.suffix in (".yaml", ".yml")):
        task = _read(path)
        if isinstance(task.get("task"), str):
            yield task


def _read(path: Path, including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return a task with its includes. Raises ValueError if it is not valid YAML, or includes itself."""
    if path in including:
        raise ValueError(f"{path}: this task includes itself.")
    try:
        task = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path}: this is not the YAML of a task: {error}") from None
    if not isinstance(task, dict):
        return {}
    included = task.pop("include", None)
    return _read(path.parent / included, (*including, path)) | task if isinstance(included, str) else task


def _files(name: str, task: Mapping[str, Any]) -> list[Path]:
    """Return the files of the split on which the task is measured."""
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    if isinstance(files, dict):
        files = files.get(task.get("test_split") or task.get("validation_split"))
    paths = [Path(file) for file in ([files] if isinstance(files, str) else files or ())]
    missing = [path.as_posix() for path in paths if not path.is_file()]
    if task.get("dataset_path") not in LOADERS or not paths or missing:
        raise ValueError(
            f"task {name}: its rows are not on this disk ({', '.join(missing) or task.get('dataset_path')}). Save them there and name them "
            "under `dataset_kwargs: {data_files: …}`, or name in `tasks` those whose rows are here."
        )
    return paths


def _question(task: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    text = _value(task.get("doc_to_text"), row)
    return (
        text if isinstance(text, str) and text else "\n".join(value for value in row.values() if isinstance(value, str))
    )


def _answer(task: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    target, choices = (_value(task.get(key), row) for key in ("doc_to_target", "doc_to_choice"))
    if isinstance(choices, list) and str(target).isdecimal() and int(target) < len(choices):
        return str(choices[int(target)])
    return str(target) if isinstance(target, str | int | float) else ""


def _value(setting: Any, row: Mapping[str, Any]) -> Any:
    """Return the column that a setting names, the rendered template, or the text itself; None if it is code or does not fit the row."""
    if isinstance(setting, _Function):
        return None
    if not isinstance(setting, str):
        return setting
    try:
        return templates.rendered(setting, row) if templates.is_template(setting) else row.get(setting, setting)
    except ValueError:
        return None
