"""Results in files, so that a benchmark that was broken off goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def result(file: Path, make: Callable[[], dict[str, Any]], told: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """What came of a trial: read from the file that an earlier call left, or made, told in a line and written whole."""
    if not file.is_file():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(made), encoding="utf-8")
        partial.replace(file)
        print(f"  {file.stem}: {told(made)}", flush=True)
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded
