"""Served models: an alias leads to a name that never changes its meaning, and to the files it stands for."""

import re
from dataclasses import dataclass
from pathlib import Path

from flows.registry import versions
from tasks.io.runs import registry
from tasks.io.weights import checkpoints, compressed, places

CHAMPION = "champion"
DIGITS = 8
"""Hexadecimal digits of a hash in the name of a model that is no version."""


@dataclass(frozen=True)
class ServedModel:
    """A model with a name that always means these weights."""

    name: str
    folder: Path
    base: Path | None
    """The base, if `folder` holds an adapter of it or a difference to it."""

    @property
    def gguf(self) -> Path | None:
        """The file of weights, if they are in GGUF."""
        return next(iter(sorted(self.folder.glob("*.gguf"))), None)


def resolve(alias: str) -> ServedModel:
    """Return what an alias leads to now: `champion`, the number of a version, `base`, a round, or a folder.

    A version is `ratchet@3`, by the name and number that MLflow's registry has; any other model is named by the hash of its weights.
    Raises ValueError or FileNotFoundError if there is no such model.
    """
    number = versions.linked_champion() if alias == CHAMPION else _number(alias)
    if number:
        return _version(number)
    # Without a link to a champion, the first model is in place.
    return _unversioned("base" if alias == CHAMPION else alias)


def _number(alias: str) -> int:
    digits = alias.removeprefix(f"{registry.NAME}@")
    return int(digits) if digits.isdecimal() else 0


def _version(number: int) -> ServedModel:
    folder = versions.folder(number) / "model"
    if not folder.is_dir():
        kept = ", ".join(sorted(path.parent.name for path in versions.FOLDER.glob("*/model"))) or "none"
        raise ValueError(f"{folder} is missing. Versions with their files are: {kept}.")
    base = folder.with_name("base")
    return ServedModel(f"{registry.NAME}@{number}", folder, base if base.is_dir() else None)


def _unversioned(alias: str) -> ServedModel:
    folder = places.find(alias)
    if checkpoints.is_bank(folder):
        checkpoints.check_folder(folder)  # which says the names of its adapters
    digest = checkpoints.read_card(folder).get("weights") or checkpoints.weights_digest(folder)
    is_change = checkpoints.is_adapter(folder) or (folder / compressed.DELTA).is_file()
    label = re.sub(r"[^\w.-]", "-", Path(alias).name)
    return ServedModel(f"{label}@{digest[:DIGITS]}", folder, places.base_of(folder) if is_change else None)
