"""Pair the items of two logs, and report how the logs differ apart from their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.experiments.logs.records import Log, TaskLog, counted, differ

SHOWN = 3
"""Largest number of items that a warning names."""


@dataclass(frozen=True)
class Pair:
    """Two logs of one task, with their common items."""

    first: str
    other: str
    """Names of the logs."""
    task: str
    before: TaskLog
    after: TaskLog
    items: tuple[str, ...]
    warnings: tuple[str, ...]


def names(logs: Sequence[Log]) -> list[str]:
    """Return a short name for each log: the last part of its path, or as many parts as distinguish it from the others."""
    paths = [log.path.resolve() for log in logs]
    suffixes = ["" if log.path.is_dir() else log.path.suffix for log in logs]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        shortened = [Path(*path.parts[-parts:]).as_posix() for path in paths]
        stems = [name.removesuffix(suffix) for name, suffix in zip(shortened, suffixes, strict=True)]
        for labels in (stems, shortened):
            if len(set(labels)) == len(paths):
                return labels
    raise ValueError(
        f"One log is given twice: {next(log.path for log in logs if paths.count(log.path.resolve()) > 1)}."
    )


def check_distinct(logs: Sequence[Log]) -> None:
    """Raise ValueError if two of the logs are copies, or two files of one run, because their difference has no meaning."""
    for number, log in enumerate(logs):
        for earlier in logs[:number]:
            runs = [{task.run for task in one.tasks.values() if task.run} for one in (earlier, log)]
            if sorted(earlier.digests) == sorted(log.digests):
                raise ValueError(f"One log is given twice: {earlier.path} and {log.path} have the same contents.")
            if runs[0] & runs[1]:
                raise ValueError(
                    f"One run is given twice: {earlier.path} and {log.path} are of {(runs[0] & runs[1]).pop()}."
                )


def pair(first: tuple[str, Log], other: tuple[str, Log]) -> list[Pair]:
    """Return the pairs of common tasks of two logs. Logs of one task each are paired even if its names differ.

    Raises ValueError if they share no task, or no item of a task, or if most items with equal ids are different items.
    """
    (first_name, before), (other_name, after) = first, other
    if len(before.tasks) == len(after.tasks) == 1:
        matched = [(next(iter(before.tasks.values())), next(iter(after.tasks.values())))]
    else:
        matched = [(task, after.tasks[name]) for name, task in before.tasks.items() if name in after.tasks]
    if not matched:
        raise ValueError(
            f"{before.path} and {after.path} share no task: {', '.join(before.tasks)} and {', '.join(after.tasks)}."
        )
    pairs = []
    for one, two in matched:
        ids = _shared(one, two, before.path, after.path)
        warnings = (*_task_differences(one, two), *_item_differences(one, two, ids, first_name, other_name))
        kept = tuple(item for item in ids if not differ(one.items[item].target, two.items[item].target))
        pairs.append(Pair(first_name, other_name, one.task, one, two, kept, warnings))
    return pairs


def unpaired_tasks(first: Log, other: Log) -> list[str]:
    """Return the tasks that only one of two logs of several tasks has."""
    if len(first.tasks) == len(other.tasks) == 1:
        return []
    return sorted(first.tasks.keys() ^ other.tasks.keys())


def _shared(before: TaskLog, after: TaskLog, first: Path, other: Path) -> list[str]:
    """Return the ids that both have, in the order of the first log."""
    ids = [item for item in before.items if item in after.items]
    if not ids:
        examples = [", ".join(list(task.items)[:SHOWN]) for task in (before, after)]
        raise ValueError(
            f"{first} and {other} have no item of task {before.task or after.task or '(unnamed)'} in common: {len(before.items):,} and "
            f"{len(after.items):,} items, with ids such as {examples[0]} and {examples[1]}. Nothing can be paired."
        )
    others = [item for item in ids if differ(before.items[item].target, after.items[item].target)]
    if 2 * len(others) > len(ids):
        raise ValueError(
            f"{first} and {other} are logs of other items: of {len(ids):,} shared ids, {len(others):,} have another target or document "
            f"({', '.join(others[:SHOWN])}{', …' if len(others) > SHOWN else ''})."
        )
    return ids


def _task_differences(before: TaskLog, after: TaskLog) -> Iterator[str]:
    if before.task != after.task:
        yield f"the tasks have other names: {before.task} and {after.task}"
    if before.version != after.version:
        yield f"the task has another version: {before.version or 'unknown'} and {after.version or 'unknown'}"
    if before.solver != after.solver and before.solver and after.solver:
        yield "the items were answered by other steps or prompt templates, so the difference is not of the models alone"
    if before.epochs != after.epochs:
        yield f"epochs differ: an item has at most {counted(before.epochs, 'score')} and {counted(after.epochs, 'score')}"


def _item_differences(before: TaskLog, after: TaskLog, ids: Sequence[str], first: str, other: str) -> Iterator[str]:
    only_before, only_after = len(before.items) - len(ids), len(after.items) - len(ids)
    if only_before or only_after:
        yield (
            f"partial overlap: {counted(len(ids), 'item')} in both and compared; {only_before:,} in {first} alone and {only_after:,} in "
            f"{other} alone, left out"
        )
    others = [item for item in ids if differ(before.items[item].target, after.items[item].target)]
    if others:
        yield f"{_counted(others, ids)} with equal ids: another target or document, left out"
    prompts = [
        item for item in ids if differ(before.items[item].prompt, after.items[item].prompt) and item not in set(others)
    ]
    if prompts:
        yield f"{_counted(prompts, ids)} with different prompts, still compared"


def _counted(some: Sequence[str], ids: Sequence[str]) -> str:
    return f"{len(some):,} of {len(ids):,} shared items ({', '.join(some[:SHOWN])}{', …' if len(some) > SHOWN else ''})"
