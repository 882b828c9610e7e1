"""Let DVC write `dvc.lock` without serialising all of it again, and with the same bytes.

After each stage DVC reads the file with a pure-Python parser that keeps comments, and writes every entry again: with 4,000 lines, this is
1.1 of the 2.0 CPU-seconds of `dvc repro --single-item`. Here an entry that did not change keeps its text.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

HEAD = "schema: '2.0'\nstages:\n"
"""The beginning of every lock file that DVC has written and no person has edited."""
ENTRY = re.compile(r"^ {2}(?=\S)", re.MULTILINE)
"""Matches the beginning of a stage's entry."""


def use() -> None:
    """Replace the function by which DVC writes `dvc.lock` in this process."""
    from dvc import dvcfile

    by_dvc = dvcfile.modify_yaml

    def modify(path: str, fs: Any = None) -> AbstractContextManager[dict[str, Any]]:
        return _modify_lock(Path(path)) if Path(path).suffix == ".lock" else by_dvc(path, fs=fs)

    dvcfile.modify_yaml = modify


@contextmanager
def _modify_lock(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the contents of a lock file, and write the file with the caller's changes."""
    from dvc.utils.serialize import parse_yaml

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lock = parse_yaml(text, str(path))
    before = dict(lock.get("stages", {}))
    yield lock
    path.write_text(changed_text(text, before, lock), encoding="utf-8")


def changed_text(text: str, before: Mapping[str, Any], lock: Mapping[str, Any]) -> str:
    """Return the text of `lock`. `text` is the file before the change, with the entries `before`: entries that are still the same objects
    keep their text. A file that does not have DVC's own form is written from scratch."""
    from dvc.utils.serialize import dumps_yaml

    parts = ENTRY.split(text.removeprefix(HEAD))[1:]
    if not text.startswith(HEAD) or list(lock) != ["schema", "stages"] or len(parts) != len(before):
        return str(dumps_yaml(lock))
    texts = dict(zip(before, parts, strict=True))
    entries = (
        f"  {texts[name]}" if entry is before.get(name) else dumps_yaml({"stages": {name: entry}}).partition("\n")[2]
        for name, entry in lock["stages"].items()
    )
    return HEAD + "".join(entries)
