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
"""What was found, a file for each look: `<basis>.json`, and `<basis>.told` once it was told to who acts on it."""


@dataclass(frozen=True)
class Look:
    """What the monitors found."""

    drifted: list[str]
    """The monitors whose chance is below the level."""
    line: str
    """All of it in one line."""
    findings: Mapping[str, Any]
    basis: str
    """A hash of the data and of what they were held against."""

    @property
    def known(self) -> bool:
        """Whether the same was looked at and told before."""
        return _told_of(self.basis).exists()


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
    """Ask the monitors, in a process of its own: this one knows no torch. What was looked at before is found in its file."""
    basis = _basis(paths)
    kept = FOLDER / f"{basis}.json"
    if not kept.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tasks.monitor", str(kept), *map(str, paths)]
        if subprocess.run(command, check=False).returncode:
            raise RuntimeError("What came in could not be looked at; the lines above say why.")
    return _look(json.loads(kept.read_text(encoding="utf-8")), basis)


def remember(found: Look) -> None:
    """From now on this look is known: whoever acts on it has been told."""
    _told_of(found.basis).touch()


def _told_of(basis: str) -> Path:
    return FOLDER / f"{basis}.told"


def _look(found: Mapping[str, Any], basis: str) -> Look:
    told = ", ".join(_told(name, finding) for name, finding in found["findings"].items())
    refused = f", {sum(found['refused'].values())} rows refused" if found["refused"] else ""
    line = f"{told}; level {found['level']:.2g}, {found['items']} of {found['read']} items{refused}"
    return Look(list(found["drifted"]), line, found["findings"], basis)


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
