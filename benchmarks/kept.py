"""Results kept in files, so that an interrupted benchmark resumes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def result(file: Path, make: Callable[[], dict[str, Any]], describe: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Return the result of a trial: read from its file, or computed, printed in one line and written atomically."""
    if not file.is_file():
        row = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(row), encoding="utf-8")
        partial.replace(file)
        print(f"  {file.stem}: {describe(row)}", flush=True)
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded
