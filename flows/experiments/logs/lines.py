"""Read JSON Lines one by one. A broken line is named by its number, and a last line that was cut off is reported separately."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINE_LIMIT = 64 * 2**20
"""Largest number of bytes of a line."""


def read_lines(path: Path, remarks: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON Lines. A last line that was cut off is added to `remarks`.

    Raises ValueError for a line that is too long or holds no JSON object.
    """
    with path.open("rb") as file:
        for line_number, line in enumerate(iter(lambda: file.readline(LINE_LIMIT + 1), b""), 1):
            if len(line) > LINE_LIMIT:
                raise ValueError(f"{path}, line {line_number}: longer than {LINE_LIMIT / 2**20:g} MiB.")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    remarks.append(f"the file was cut off: its last line, {line_number}, is not JSON, and is left out.")
                    return
                raise ValueError(f"{path}, line {line_number}: no JSON ({error}).") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {line_number}: expected a JSON object, not {type(row).__name__}.")
            yield row


def first_object(path: Path) -> dict[str, Any] | None:
    """Return the object in the first line that is not empty, or None if that is not a JSON object."""
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(LINE_LIMIT), b""):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    return None
                return row if isinstance(row, dict) else None
    return None
