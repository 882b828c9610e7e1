"""What came in, looked at once: the findings of the monitors, and what was looked at before."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import adoption, history, workspace
from tasks import settings
from tasks.io import provenance

FOLDER = workspace.SCRATCH / "monitor"
LAST = FOLDER / "last.json"


@dataclass(frozen=True)
class Look:
    """What the monitors found."""

    drifted: list[str]
    """The monitors whose chance is below the level."""
    line: str
    """All of it in one line."""
    findings: Mapping[str, Any]
    known: bool
    """Whether the same data were looked at before, against the same."""


def places(given: Sequence[str]) -> list[Path]:
    """The files and folders to look at: those given, else `monitor.incoming`. Raises ValueError where there is neither."""
    named = settings.load().monitor.incoming
    if not given and named is None:
        raise ValueError(
            "There is nothing to look at: name a file (`ratchet monitor FILE`), or a place in params.yaml (`monitor: {incoming: "
            "data/incoming}`)."
        )
    return [Path(path) for path in given] or [named]


def is_empty(paths: Sequence[Path]) -> bool:
    """Whether no table has come in: a folder that is not there yet counts as empty."""
    return not any(path.is_file() or any(_tables(path)) for path in paths)


def look(paths: Sequence[Path]) -> Look:
    """Ask the monitors, in a process of its own: this one knows no torch. What was looked at before is told again."""
    basis = _basis(paths)
    if LAST.is_file() and (last := json.loads(LAST.read_text(encoding="utf-8")))["basis"] == basis:
        return _look(last["found"], known=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    output = FOLDER / "found.json"
    command = [sys.executable, "-m", "tasks.monitor", str(output), *map(str, paths)]
    if subprocess.run(command, check=False).returncode:
        raise RuntimeError("What came in could not be looked at; the lines above say why.")
    found = json.loads(output.read_text(encoding="utf-8"))
    unseen = LAST.with_suffix(".partial")
    unseen.write_text(json.dumps({"basis": basis, "found": found}, indent=1) + "\n", encoding="utf-8")
    unseen.replace(LAST)
    return _look(found, known=False)


def _look(found: Mapping[str, Any], *, known: bool) -> Look:
    told = ", ".join(_told(name, finding) for name, finding in found["findings"].items())
    refused = f", {sum(found['refused'].values())} rows refused" if found["refused"] else ""
    line = f"{told}; level {found['level']:.2g}, {found['items']} of {found['read']} items{refused}"
    return Look(list(found["drifted"]), line, found["findings"], known)


def _told(name: str, finding: Mapping[str, Any]) -> str:
    interval = "" if finding["low"] is None else f" [{finding['low']:+.3f}, {finding['high']:+.3f}]"
    return f"{name} {finding['value']:+.3f}{interval} {finding['unit']} (p = {finding['chance']:.3f})"


def _basis(paths: Sequence[Path]) -> str:
    """A hash of all that the findings follow from: the data, what they are held against, the settings."""
    everything = settings.load()
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(_tables(path)))]
    against = [Path("dvc.lock"), Path("models/candidate.json")]
    digests = {path.as_posix(): provenance.digest(path) for path in [*files, *against] if path.exists()}
    facts = digests | {
        "champion": str(history.read().champion),
        "monitor": everything.monitor.model_dump_json(),
        "methods": json.dumps({name: str(getattr(everything.methods, name)) for name in everything.monitor.methods}),
    }
    return provenance.facts_digest(facts)


def _tables(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in adoption.TABLES]
