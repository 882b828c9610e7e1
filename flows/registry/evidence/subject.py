"""The model that evidence is about: its files, the stages that made it, what they read by hash, and the decision on it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.execution.dvc import lock_file, lock_graph
from flows.registry import history, versions
from flows.registry.evidence import layout
from flows.registry.history import PromotionDecision
from tasks import configuration
from tasks.io import provenance
from tasks.io.runs import registry
from tasks.io.system import git
from tasks.io.weights import checkpoints, compressed

CANDIDATE = Path("models/candidate.json")
SUMMARY = Path("data/report/summary.json")
REPORT_CARD = Path("data/report/README.md")
FIGURES = ("data/results", "data/metrics")
"""Folders whose contents the report tells."""
RESULTS = "data/gate"
TABLE = re.compile(r"data/(rounds/\w+/examples|ingested/(train|valid|test|gate|benchmark)(_documents)?)\.parquet")
"""The tables that are the data of a model; others hold what was made of them."""


@dataclass(frozen=True)
class Material:
    """A file that a stage read, by its hashes."""

    path: str
    md5: str
    """As dvc.lock has it."""
    sha256: str
    bytes: int

    @property
    def is_table(self) -> bool:
        """Return True for a table of examples or documents."""
        return TABLE.fullmatch(self.path) is not None


@dataclass(frozen=True)
class Subject:
    """A model of this workspace."""

    name: str
    """`ratchet@3`, or the entry of `models`."""
    label: str
    """The name of its folder of evidence."""
    entry: str
    """The name by which it was measured."""
    folders: Mapping[str, Path]
    """Its files by kind: `model`, and `base` where that is a change of one."""
    origins: tuple[str, ...]
    """Where stages wrote them."""
    decision: PromotionDecision | None
    candidate: Mapping[str, Any] = field(default_factory=dict)
    """What stage `register` wrote of it; empty for a model that is no candidate."""
    lock_path: Path = lock_file.PATH
    """The dvc.lock that it was made by."""

    @property
    def commit(self) -> str:
        """The commit that was checked out when the gate judged it, or now."""
        return self.decision.commit if self.decision else git.commit()

    @cached_property
    def lock(self) -> dict[str, dict[str, Any]]:
        """The entries of dvc.lock for the stages that the model and its results follow from, in plan order."""
        return _lineage(lock_file.stages(self.lock_path), self.origins, self.entry)

    @cached_property
    def materials(self) -> list[Material]:
        """Every file that these stages read, by path.

        Raises ValueError if one is not what dvc.lock was written for.
        """
        paths = {
            path: digest for entry in self.lock.values() for path, digest in lock_graph.hashes(entry, "deps").items()
        }
        read: dict[str, Material] = {}
        for path, expected in paths.items():
            md5_of = {file: _md5(file) for file in lock_graph.members(Path(path))}
            if not md5_of or lock_graph.digest(Path(path), md5_of) != expected:
                raise ValueError(f"{path} is not what dvc.lock was written for. `ratchet run` brings both up to date.")
            for file, md5 in md5_of.items():
                read[file.as_posix()] = Material(file.as_posix(), md5, provenance.digest(file), file.stat().st_size)
        return [read[path] for path in sorted(read)]

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """The settings that each stage was run with."""
        return {stage: dict(entry["params"]) for stage, entry in self.lock.items() if entry.get("params")}

    @property
    def results(self) -> list[dict[str, Any]]:
        """The measures of the report with their intervals; empty for a model that it does not compare, and where it is not up to date."""
        if not SUMMARY.is_file() or not is_reported():
            return []
        comparisons = json.loads(SUMMARY.read_text(encoding="utf-8")).get("comparisons", {})
        return list(comparisons.get(self.entry, {}).get("rows", []))

    @property
    def model_card(self) -> dict[str, Any]:
        """The contents of the model's ratchet.json."""
        return checkpoints.read_card(self.folders[layout.MODEL])


def load(name: str) -> Subject:
    """Return the model of a name: `champion`, the number of a version, or an entry of `models` in params.yaml.

    Raises ValueError if there is no such model, or if the workspace no longer holds what a version was made from.
    """
    number = _champion() if name == "champion" else name.removeprefix(f"{registry.NAME}@")
    return _version(int(number)) if number.isdecimal() else _measured(name)


def is_present(number: int) -> bool:
    """Return True if dvc.lock has the stages that a version follows from as they were when it was promoted. Others may have run since."""
    then, path = versions.folder(number) / lock_file.PATH.name, versions.folder(number) / CANDIDATE.name
    if not then.is_file() or not path.is_file():
        return False
    card = layout.read_json(path)
    origins = [file["path"] for file in card["files"].values()]
    first, now = (_lineage(lock_file.stages(lock), origins, card["candidate"]) for lock in (then, lock_file.PATH))
    return first == now


def is_reported() -> bool:
    """Return True unless the report was made of other results than those that are here, as after `ratchet run register`."""
    told = lock_graph.hashes(lock_file.stages().get("report", {}), "deps")
    here = {path: {file: _md5(file) for file in lock_graph.members(Path(path))} for path in FIGURES if path in told}
    return all(lock_graph.digest(Path(path), md5_of) == told[path] for path, md5_of in here.items())


def _lineage(stages: Mapping[str, dict[str, Any]], origins: Sequence[str], entry: str) -> dict[str, dict[str, Any]]:
    """Return those stages that these files of a model, and its results on the gate set, follow from."""
    needed = lock_graph.upstream(stages, [*origins, f"{RESULTS}/{entry}.parquet"])
    return {stage: record for stage, record in stages.items() if stage in needed}


def _champion() -> str:
    champion = history.read().champion
    if champion == history.REFERENCE:
        raise ValueError("There is no champion: nothing was promoted yet. `ratchet promote` judges the candidate.")
    return str(champion)


def _version(number: int) -> Subject:
    past, folder = history.read(), versions.folder(number)
    if number not in past.promoted:
        known = ", ".join(map(str, past.promoted)) or "none"
        raise ValueError(f"Version {number} was never promoted, and only promoted ones are kept. These were: {known}.")
    decision = past.promoted[number]
    versions.check_files(number, decision.files)
    if not is_present(number):
        raise ValueError(
            f"{lock_file.PATH} has other stages than version {number} was promoted with, so its inputs are not here. First check out "
            f"that state, which was made from commit {decision.commit[:12]}:\n    git checkout COMMIT && dvc checkout"
        )
    card = layout.read_json(folder / CANDIDATE.name)
    origins = tuple(file["path"] for file in card["files"].values())
    folders = {kind: folder / kind for kind in decision.files}
    lock = folder / lock_file.PATH.name
    return Subject(f"{registry.NAME}@{number}", str(number), decision.name, folders, origins, decision, card, lock)


def _measured(name: str) -> Subject:
    models = configuration.load().models
    if name not in models:
        raise ValueError(
            f"There is no model {name!r}. There are: {', '.join(['champion', *models])}, and versions by number."
        )
    model = models[name]
    path = Path(model.path)
    if not path.is_dir() or not lock_file.PATH.is_file():
        raise FileNotFoundError(f"{path} is missing. `ratchet run` makes it.")
    if checkpoints.is_bank(path):
        raise ValueError(
            f"{path} is a bank of adapters, and evidence describes one model. Merge an adapter of it by `ratchet merge … --name`."
        )
    is_change = checkpoints.is_adapter(path) or (path / compressed.DELTA).is_file()
    folders = {layout.MODEL: path} | ({layout.BASE: Path(model.base)} if is_change else {})
    candidate = layout.read_json(CANDIDATE) if CANDIDATE.is_file() else {}
    is_candidate = candidate.get("candidate") == name
    return Subject(
        name, name, name, folders, tuple(map(str, folders.values())), None, candidate if is_candidate else {}
    )


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
