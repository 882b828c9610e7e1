"""Read the output of lm-evaluation-harness with `--log_samples`: samples_TASK_DATE.jsonl beside results_DATE.json."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.experiments.logs.lines import read_lines
from flows.experiments.logs.records import Answer, TaskLog, digest
from flows.experiments.logs.scores import build_items

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl")
_NOT_SCORES = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_NOT_SCORES |= {"doc_hash", "prompt_hash", "target_hash"}


def is_sample(row: Mapping[str, Any]) -> bool:
    """Return True for a line of a file of samples."""
    return "doc_id" in row and "resps" in row


def read_samples(path: Path) -> TaskLog:
    """Return the results of one task. Version and model come from the file of results beside it, if there is one."""
    match = _NAME.fullmatch(path.name)
    task, date = (match["task"], match["date"]) if match else (path.stem, None)
    table = path.with_name(f"results_{date}.json")
    results = _read_results(table) if date and table.is_file() else {}
    remarks: list[str] = []
    if not results:
        remarks.append("no table of results lies beside the samples: the version of the task is not known.")
    try:
        items, epochs, left_out = build_items(_answers(read_lines(path, remarks)), str(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not have the structure of lm-evaluation-harness's samples ({type(error).__name__}: {error})."
        ) from error
    planned = ((results.get("n-samples") or {}).get(task) or {}).get("effective")
    if planned and planned > len(items):
        remarks.append(f"{len(items):,} items have a score, of {planned:,} that were evaluated.")
    config = results.get("config") or {}
    return TaskLog(
        task=task,
        model=" ".join(str(config[key]) for key in ("model", "model_args") if config.get(key)),
        version=str((results.get("versions") or {}).get(task, "")),
        solver=_shots(results, task),
        run="",
        items=items,
        epochs=epochs,
        remarks=(*remarks, *left_out),
    )


def _read_results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is truncated, or not JSON: {error}.") from error
    if not isinstance(results, dict):
        raise ValueError(f"{path} is not a table of results of lm-evaluation-harness.")
    return results


def _shots(results: Mapping[str, Any], task: str) -> str:
    """Return the parts of the prompts: few-shot examples, system instruction, chat template."""
    shots = (results.get("n-shot") or {}).get(task)
    parts = (shots, results.get("system_instruction"), results.get("chat_template_sha"))
    return json.dumps(parts) if results else ""


def _answers(rows: Iterable[Mapping[str, Any]]) -> Iterator[Answer]:
    for row in rows:
        doc = row.get("doc") or {}
        names = row.get("metrics") or [name for name in row if name not in _NOT_SCORES]
        suffix = "" if row.get("filter", "none") == "none" else f",{row['filter']}"
        yield Answer(
            item=str(row["doc_id"]),
            target=str(row.get("doc_hash") or digest(json.dumps(doc, sort_keys=True) if doc else "")),
            prompt=str(row.get("prompt_hash") or digest(json.dumps(row["arguments"], sort_keys=True))),
            facts={key: str(value) for key, value in doc.items() if isinstance(value, str | int)},
            scores={f"{name}{suffix}": row[name] for name in names},
        )
