"""Read inspect-ai's logs: `.eval`, a zip of JSON, and the older `.json` (https://inspect.aisi.org.uk/eval-logs.html).

From a zip, the header and the summaries of the samples are read, but not the transcripts, which may take gigabytes. If the evaluation did not
end, the summaries are in parts, in a journal.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.experiments.logs.archive import LIMIT, Archive
from flows.experiments.logs.records import Answer, TaskLog, digest
from flows.experiments.logs.scores import build_items

HEADER, START, SUMMARIES = "header.json", "_journal/start.json", "summaries.json"
_JOURNAL = re.compile(r"_journal/summaries/(\d+)\.json")
_CUT = "...\n(content truncated)"
"""The end of a text that inspect-ai cut in its summary."""


def read_eval(path: Path) -> TaskLog:
    """Return the results in an `.eval` file. Raises ValueError if it is not one, or is damaged."""
    with Archive(path) as archive:
        names = set(archive.names)
        if not names & {HEADER, START}:
            raise ValueError(f"{path} is a zip, and no log of inspect-ai: it holds neither {HEADER} nor {START}.")
        header = archive.read_json(HEADER if HEADER in names else START)
        return _task_log(path, header, _summaries(archive))


def read_json(path: Path) -> TaskLog:
    """Return the results in a log of the older form, one JSON object. Raises ValueError if it is too large, cut off, or not such a log."""
    if (size := path.stat().st_size) > LIMIT:
        raise ValueError(f"{path} has {size / 2**30:.1f} GiB; at most {LIMIT / 2**30:g} GiB of a log are read.")
    try:
        log = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is truncated, or not JSON: {error}.") from error
    if not is_log(log):
        raise ValueError(f"{path} is JSON, and no log of inspect-ai: it lacks `eval` or `status`.")
    return _task_log(path, log, log.get("samples") or [])


def is_log(value: object) -> bool:
    """Return True for the contents of a log of the older form."""
    return isinstance(value, dict) and isinstance(value.get("eval"), dict) and "status" in value


def _summaries(archive: Archive) -> Sequence[Mapping[str, Any]]:
    names = set(archive.names)
    if SUMMARIES in names:
        return archive.read_json(SUMMARIES)
    journal = sorted((int(match[1]), name) for name in names if (match := _JOURNAL.fullmatch(name)))
    if journal:
        return [summary for _, name in journal for summary in archive.read_json(name)]
    return [archive.read_json(name) for name in sorted(names) if name.startswith("samples/")]


def _task_log(path: Path, header: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> TaskLog:
    try:
        evaluation = header["eval"]
        items, epochs, remarks = build_items(_answers(samples), str(path))
        return TaskLog(
            task=str(evaluation["task"]),
            model=str(evaluation.get("model", "")),
            version=str(evaluation.get("task_version", "")),
            solver=json.dumps((header.get("plan") or {}).get("steps", []), sort_keys=True),
            run=str(evaluation.get("eval_id") or evaluation.get("run_id") or ""),
            items=items,
            epochs=epochs,
            remarks=(*_unfinished(header, samples), *remarks),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not have the structure of a log of inspect-ai ({type(error).__name__}: {error})."
        ) from error


def _answers(samples: Sequence[Mapping[str, Any]]) -> Iterator[Answer]:
    for sample in samples:
        metadata = sample.get("metadata") or {}
        yield Answer(
            item=str(sample["id"]),
            target=digest(_text(sample.get("target", ""))),
            prompt=digest(_text(sample["input"])),
            facts={key: str(value) for key, value in metadata.items() if isinstance(value, str | int)},
            scores={name: score["value"] for name, score in (sample.get("scores") or {}).items()},
            error=str(sample.get("error") or ""),
        )


def _unfinished(header: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    status = header.get("status", "started")
    if status == "success":
        return
    config, dataset = header["eval"].get("config") or {}, header["eval"].get("dataset") or {}
    planned = len(dataset.get("sample_ids") or []) or dataset.get("samples")
    epochs = config.get("epochs") or 1
    message = ((header.get("error") or {}).get("message") or "").partition("\n")[0]
    yield (
        f"the evaluation did not end (status {status}): {len(samples):,} answers"
        f"{f' of {planned * epochs:,}' if planned else ''}{f'. {message[:120]}' if message else ''}"
    )


def _text(value: object) -> str:
    """Return an input or a target as one text. For messages, it has their roles and texts, because their ids differ between runs."""
    if isinstance(value, str):
        return value.removesuffix(_CUT)
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
    if isinstance(value, dict):
        content = _text(value.get("content", value.get("text", "")))
        return f"{value['role']}: {content}" if "role" in value else content
    return str(value)
