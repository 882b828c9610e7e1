"""Names that data give to their splits."""

import re
from collections.abc import Mapping

from tasks.core.records import Split

NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "development": "valid",
    "test": "test",
    "testing": "test",
    "gate": "gate",
}
"""Name in lower case → split."""
COLUMNS = ("split", "partition", "subset", "set", "fold")
"""Columns that may hold the name of a split."""


def named_split(name: object) -> Split | None:
    """Return the split that a value names; None if there is no such split."""
    return NAMES.get(name.strip().lower()) if isinstance(name, str) else None


def split_of_file(name: str) -> Split | None:
    """Return the split with whose name the name of a file begins or ends (`test-00000-of-00002`, `questions_dev`); None without such a name."""
    words = re.findall(r"[a-z]+", name.lower().partition(".")[0])
    words = [word for word in words if word != "of"]  # the numbers of parts
    return NAMES.get(words[0]) or NAMES.get(words[-1]) if words else None
