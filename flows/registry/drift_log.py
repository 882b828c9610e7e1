"""Check incoming data for drift, once for the same data and model: the findings, and which of them were reported."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.execution import workspace
from flows.registry import history
from tasks import configuration, methods
from tasks.io import provenance
from tasks.io.sources import folders
from tasks.io.system.files import missing

FOLDER = workspace.SCRATCH / "monitor"
"""Holds the findings of each check as `<basis>.json`, and `<basis>.told` once they were reported to a server that acts on them."""

REFERENCES = (Path("data/rounds/r0/examples.parquet"), Path("data/ingested/valid.parquet"), Path("models/embedder"))
"""The files that monitors compare incoming data with (`tasks.monitor`), beside the model in place."""
CANDIDATE = Path("models/candidate.json")


@dataclass(frozen=True)
class DriftCheck:
    """The findings of the monitors."""

    drifted: list[str]
    """The monitors whose p-value is below the level."""
    line: str
    """The findings in one line."""
    findings: Mapping[str, Any]
    basis: str
    """A hash of the data and of what they were compared with."""
    proposal: str = ""
    """A sentence that proposes an adapter for data of a new domain; empty if there are none."""
    too_few: str = ""
    """A sentence with the number of rows if they are too few for a test; empty otherwise."""

    @property
    def known(self) -> bool:
        """True if the same findings were reported before."""
        return _mark(self.basis).exists()


def incoming_paths(given: Sequence[str]) -> list[Path]:
    """Return the files and folders to check: those given, otherwise `monitor.incoming`.

    Raises ValueError if there is neither, FileNotFoundError if one that was given is missing.
    """
    configured = configuration.load().monitor.incoming
    if given:
        for path in map(Path, given):
            if not path.exists():
                raise missing(path)
        return [Path(path) for path in given]
    if configured is None:
        raise ValueError(
            "There is nothing to check: name a file (`ratchet monitor FILE`), or a place in params.yaml (`monitor: {incoming: "
            "data/incoming}`)."
        )
    return [configured]


def is_empty(paths: Sequence[Path]) -> bool:
    """Return True if no table has come in: a folder that does not exist yet counts as empty."""
    return not any(path.is_file() or any(_tables(path)) for path in paths)


def check(paths: Sequence[Path]) -> DriftCheck:
    """Run the monitors in a separate process, since flows do not import torch. Findings of an earlier check are read from their file."""
    basis = _basis(paths)
    file = FOLDER / f"{basis}.json"
    if not file.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tasks.monitor", str(file), *map(str, paths)]
        if subprocess.run(command, check=False).returncode:
            raise RuntimeError("The incoming data could not be checked; the lines above say why.")
    return _drift_check(json.loads(file.read_text(encoding="utf-8")), basis)


def look_for_new_domains() -> str:
    """Return what `DriftCheck.proposal` says of the data at `monitor.incoming`, if a monitor is set that judges single items and some came
    in."""
    config = configuration.load().monitor
    if config.incoming is None or not any(methods.spec("monitors", name).names_new for name in config.methods):
        return ""
    return "" if is_empty([config.incoming]) else check([config.incoming]).proposal


def mark_reported(findings: DriftCheck) -> None:
    """Record that these findings were reported to a server that acts on them."""
    _mark(findings.basis).touch()


def _mark(basis: str) -> Path:
    return FOLDER / f"{basis}.told"


def _drift_check(record: Mapping[str, Any], basis: str) -> DriftCheck:
    if "too_few" in record:
        return DriftCheck([], "", {}, basis, too_few=record["too_few"])
    findings = ", ".join(_as_text(name, finding) for name, finding in record["findings"].items())
    refused = f", {sum(record['refused'].values())} rows refused" if record["refused"] else ""
    line = f"{findings}; level {record['level']:.2g}, {record['items']} of {record['read']} items{refused}"
    return DriftCheck(list(record["drifted"]), line, record["findings"], basis, _proposed(record.get("proposal")))


def _proposed(proposal: Mapping[str, Any] | None) -> str:
    """Return a proposal in a sentence."""
    if proposal is None:
        return ""
    by_file = ", ".join(f"{new} of {came} in {name}" for name, (new, came) in proposal["by_file"].items())
    return (
        f"{proposal['items']} items are of no domain on which the model was trained ({by_file}), and a new adapter is proposed for them. They lie in "
        f"{proposal['rows']}, {proposal['answered']} of them with an answer. As a source of ingest of a task of its own "
        f"({{from: file, path: …, task: {proposal['task']}}}) those with answers train one more adapter of a bank (tune.bank: task), and change no other."
    )


def _as_text(name: str, finding: Mapping[str, Any]) -> str:
    interval = "" if finding["low"] is None else f" [{finding['low']:+.3f}, {finding['high']:+.3f}]"
    return f"{name} {finding['value']:+.3f}{interval} {finding['unit']} (p = {finding['chance']:.3f})"


def _basis(paths: Sequence[Path]) -> str:
    """Return a hash of everything that determines the findings: the data, what they are compared with, the config.

    Nothing else is in it, such as a candidate that was refused: each change would report known findings again, and retrain for them.
    """
    config = configuration.load()
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(_tables(path)))]
    champion = history.read().champion
    model = [CANDIDATE] if champion == history.REFERENCE else []
    digests = {path.as_posix(): provenance.digest(path) for path in [*files, *REFERENCES, *model] if path.exists()}
    facts = digests | {
        "champion": str(champion),
        "monitor": config.monitor.model_dump_json(),
        "methods": json.dumps({name: str(getattr(config.methods, name)) for name in config.monitor.methods}),
    }
    return provenance.facts_digest(facts)


def _tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folders.walk(folder) if folders.role(path) == "table"]
