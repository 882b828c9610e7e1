"""Remember figures that were measured once on this machine, in files of the user's cache folder.

If a file cannot be read or written, the figures are measured again each time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tasks.io.system import files

T = TypeVar("T")
Values = dict[str, Any]
"""A measurement as JSON can hold it."""


def cache_file(name: str) -> Path:
    """Return a file in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "ratchet" / name


def get(path: Path, key: str, typed: Callable[[Values], T], measure: Callable[[], Values | None]) -> T | None:
    """Return the measurement of this key as `typed` makes it, measured if it is not known yet; None if that fails.

    Entries that `typed` rejects, such as those of an earlier format, do not count as known.
    """
    known = _read(path, typed)
    if key not in known:
        measured = measure()
        if measured is None or not _is_valid(measured, typed):
            return None
        known = _read(path, typed) | {key: measured}  # another process may have written meanwhile
        _write(path, known)
    return typed(known[key])


def printed(module: str, *arguments: str, patience_s: float) -> Values | None:
    """Return the JSON object that `python -m module …` prints; None if it prints anything else, or nothing in time."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience_s)
        values = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _read(path: Path, typed: Callable[[Values], object]) -> dict[str, Values]:
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    return {key: values for key, values in known.items() if _is_valid(values, typed)}


def _is_valid(values: Values, typed: Callable[[Values], object]) -> bool:
    try:
        typed(values)
    except (TypeError, KeyError):
        return False
    return True


def _write(path: Path, known: dict[str, Values]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, json.dumps(known, indent=1) + "\n", concurrent=True)
    except OSError:
        return
