"""What a model is asked, or was answered, as it comes in: tables of the shapes that `ingest` takes, with or without a response."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.records import Example, Message, Refusal, Unfit, excerpt, identify
from tasks.io.sources import table
from tasks.stages.ingest import shapes
from tasks.stages.ingest.params import TABLES

ASKED = (*dict.fromkeys(asked for asked, _ in shapes.PAIRS), "text")
"""The columns that hold a prompt where a row has no response."""
NONE = "—"
"""The response of what has none yet."""


def files(paths: Sequence[Path]) -> list[Path]:
    """The tables at these paths, those below a folder in order. Raises FileNotFoundError where there is nothing at a path."""
    found = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder.")
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in below if file.is_file() and (file.suffix.lower() in TABLES or file == path)]
    if unknown := [file for file in found if file.suffix.lower() not in TABLES]:
        raise ValueError(f"{unknown[0]}: expected a table that ends in {', '.join(TABLES)}.")
    return found


def read(paths: Sequence[Path]) -> Iterator[Example | Refusal]:
    """Every row of these tables as an example, whose response is `NONE` where it has none, or why it is no example."""
    for path in paths:
        for record in table.rows(path):
            if isinstance(record, table.Broken):
                yield Refusal(path.as_posix(), record.where, record.reason, record.detail, record.record)
                continue
            messages = _conversation(record.values)
            if isinstance(messages, Unfit):
                start = excerpt(str(record.values))
                yield Refusal(path.as_posix(), record.where, messages.reason, messages.detail, start)
                continue
            where = f"{path.as_posix()}: {record.where}"
            yield Example(identify(messages), messages, "incoming", path.stem, where, "test", where, "unknown")


def _conversation(row: Mapping[str, Any]) -> list[Message] | Unfit:
    """The messages of a row; one without a response gets `NONE` for it."""
    row = {name: value for name, value in row.items() if value is not None}
    found = shapes.conversation(row)
    if not isinstance(found, Unfit):
        return found
    for name in ("messages", "conversations"):
        if isinstance(row.get(name), list):
            completed = shapes.conversation({"messages": [*row[name], {"role": "assistant", "content": NONE}]})
            return found if isinstance(completed, Unfit) else completed
    prompt = next((row[name] for name in ASKED if row.get(name)), None)
    if prompt is None or found.reason != "unknown shape":
        return found
    system = {name: row[name] for name in shapes.SYSTEM if name in row}
    return shapes.conversation(system | {"prompt": prompt, "completion": NONE})
