"""Read plain JSON Lines of scores: an id, and `score`, or `scores` by name, or numbers in fields of any name.

{"id": "q1", "score": 1, "group": "algebra"}
{"id": "q1", "scores": {"exact": true, "rouge": 0.41}, "task": "trivia", "epoch": 2}
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.experiments.logs.lines import read_lines
from flows.experiments.logs.records import Answer, TaskLog, digest
from flows.experiments.logs.scores import build_items

IDS = ("id", "item", "item_id", "sample_id", "doc_id")
TARGETS = ("target", "answer", "reference")
SAID = "answer"
"""The field that is the target of a line without the other fields, else the model's answer."""
PROMPTS = ("prompt", "input", "question")
NOT_SCORES = {*IDS, *TARGETS, *PROMPTS, "score", "scores", "task", "model", "version", "epoch", "group", "metadata"}


def has_scores(row: Mapping[str, Any]) -> bool:
    """Return True for a line with an id and a score."""
    return any(name in row for name in IDS) and bool(_scores(row))


def read_scores(path: Path) -> dict[str, TaskLog]:
    """Return the results by task. Lines without a task belong to one with the name of the file."""
    remarks: list[str] = []
    answers: dict[str, list[Answer]] = defaultdict(list)
    known: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for count, row in enumerate(read_lines(path, remarks), 1):
        task = str(row.get("task", ""))
        answers[task].append(_answer(row, f"{path}, object {count}"))
        for key in ("model", "version"):
            if key in row:
                known[task][key].add(str(row[key]))
    logs = {}
    for task, of_task in answers.items():
        items, epochs, left_out = build_items(of_task, f"{path}{f', task {task}' if task else ''}")
        logs[task] = TaskLog(
            task=task,
            model=", ".join(sorted(known[task]["model"])),
            version=", ".join(sorted(known[task]["version"])),
            solver="",
            run="",
            items=items,
            epochs=epochs,
            remarks=(*remarks, *left_out),
        )
    if not logs:
        raise ValueError(f"{path} holds no scores: none of its lines is complete.")
    return logs


def _answer(row: Mapping[str, Any], where: str) -> Answer:
    names = [name for name in IDS if name in row]
    if not names:
        raise ValueError(f"{where}: no id. Items of two logs are paired by one of the fields {', '.join(IDS)}.")
    metadata = row.get("metadata")
    facts = {**(metadata if isinstance(metadata, dict) else {}), **row}
    return Answer(
        item=str(row[names[0]]),
        target=_digest(row, [name for name in TARGETS if name in row and name != SAID] or [SAID]),
        prompt=_digest(row, PROMPTS),
        facts={key: str(value) for key, value in facts.items() if isinstance(value, str | int)},
        scores=_scores(row),
    )


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("scores"), dict):
        return row["scores"]
    if "score" in row:
        return {"score": row["score"]}
    return {name: value for name, value in row.items() if name not in NOT_SCORES and isinstance(value, int | float)}


def _digest(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the digest of the first of these fields that is not empty; without one an empty text, which equals every other digest."""
    value = next((row[name] for name in names if row.get(name) not in (None, "")), "")
    return digest(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
