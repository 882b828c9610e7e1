"""Import a user's own data: detect what it is, copy it to data/raw/, and name it in params.yaml."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.project import config_editing
from tasks.io.system import files

RAW = Path("data/raw")
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
TEXTS = (".txt", ".md", ".rst", ".html", ".htm")
SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files that mark a folder which `datasets` wrote with `save_to_disk`."""
IGNORED = ("__pycache__", "*.pyc", ".git", ".venv", "node_modules", ".*_cache")


@dataclass(frozen=True)
class Sources:
    """The sources of examples and of the corpus, as entries of params.yaml."""

    examples: tuple[dict[str, Any], ...]
    corpus: tuple[dict[str, Any], ...]

    def moved(self, old: Path, new: Path) -> "Sources":
        """Return these sources with the data at another place."""

        def move(source: dict[str, Any]) -> dict[str, Any]:
            return source | {"path": (new / Path(source["path"]).relative_to(old)).as_posix()}

        return Sources(tuple(map(move, self.examples)), tuple(map(move, self.corpus)))


def detect(path: Path) -> Sources:
    """Return the sources at `path`. Raises FileNotFoundError or ValueError if there is nothing to train on."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder.")
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise ValueError(
                f"{path}: expected a table ({', '.join(TABLES)}) or a folder, found {path.suffix or 'no ending'}."
            )
        return Sources((_source("file", path),), ())
    if any((path / mark).is_file() for mark in SAVED):
        return Sources((_source("datasets", path),), ())
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    endings = dict.fromkeys(file.suffix for file in files if file.suffix.lower() in TABLES)
    examples = [_source("file", path / f"**/*{ending}") for ending in endings]  # what comes later is taken too
    has_code = any(file.suffix == ".py" for file in files)
    has_text = any(file.suffix.lower() in TEXTS for file in files)
    if has_code:
        examples.append(_source("folder", path))
    if not examples and not has_text:
        known = ", ".join((".py", *TEXTS, *TABLES))
        raise ValueError(f"{path}: none of its {len(files)} files ends in {known}.")
    return Sources(tuple(examples), (_source("folder", path),) if has_code or has_text else ())


def preview(sources: Sources) -> dict[str, Any]:
    """Return a preview of what stage `ingest` makes of the sources. It runs in a process of its own: flows import no stage."""
    if not sources.examples:
        return {"kept": 0, "refused": {}, "groups": 0, "rows": [], "refusals": []}
    command = [sys.executable, "-m", "tasks.stages.ingest.preview", json.dumps(sources.examples)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ValueError(answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "the preview ended early")
    return dict(json.loads(answer.stdout))


def copy_data(path: Path) -> Path:
    """Copy the data to data/raw/ and return their place there. Data that lie there already stay where they are."""
    if path.resolve().is_relative_to(RAW.resolve()):
        return path.resolve().relative_to(Path.cwd())
    target = RAW / path.resolve().name
    if target.exists():
        raise ValueError(f"{target} is there already. Remove it, or point to it: ratchet init {target}")
    with files.atomic_path(target) as copy:
        if path.is_dir():
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns(*IGNORED))
        else:
            shutil.copyfile(path, copy)
    return target


def write_sources(sources: Sources, params: Path) -> list[str]:
    """Name these sources in a settings file and keep its comments and other settings. Returns the keys that changed."""
    changed = []
    with config_editing.edited_config(params) as tree:
        if sources.examples:
            tree["ingest"]["sources"] = list(sources.examples)
            tree["ingest"].ca.items.pop("sources", None)  # the comment spoke of the sources that were here
            changed.append("ingest.sources")
        tree["ingest"].setdefault("corpora", {})["domain"] = list(sources.corpus)
        changed.append("ingest.corpora.domain")
    return changed


def _source(kind: str, path: Path) -> dict[str, Any]:
    return {"from": kind, "path": path.as_posix()}
