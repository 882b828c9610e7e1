"""Banks on disk: a folder with one adapter for each task or domain, all of one base, each in its own folder, and `ratchet.json`, which lists
them."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tasks import methods
from tasks.io.weights import checkpoints

By = Literal["task", "domain"]
"""The kinds of units for each of which a bank has an adapter."""
LONGEST = 240
"""Largest number of bytes of a member's folder name. File systems allow 255, and the temporary name of a folder is longer."""
CENTROID = "centroid.npy"
"""A file in a member's folder with the mean and variance, (2, L, H), of the base's mean hidden states in some layers, over prompts of its task or
texts of its domain."""


@dataclass(frozen=True)
class Member:
    """An adapter of a bank."""

    folder: str
    """The folder of the member in the bank."""
    weights: str
    """The hash of its weights."""
    examples: int
    """Number of examples or documents of its task or domain on which it was trained."""


def folder_name(task: str, by: By = "task") -> str:
    """Return the folder of the adapter of a task or domain: its name, with `-` for all characters except letters, digits, `.`, `_` and `-`, and
    without a `.` at the beginning.

    Raises ValueError for a name of which nothing remains, and for one that is too long.
    """
    name = re.sub(r"[^\w.-]", "-", unicodedata.normalize("NFC", task))
    name = f"-{name[1:]}" if name.startswith(".") else name
    if not re.search(r"\w", name):
        raise ValueError(
            f"{by.capitalize()} {task!r} has no letter or digit, by which its folder in the bank could be named. Rename it."
        )
    if len(name.encode()) > LONGEST:
        raise ValueError(f"The name of {by} {name[:20]}… has more than {LONGEST} bytes. Rename it.")
    return name


def folder_names(tasks: Iterable[str], by: By = "task") -> dict[str, str]:
    """Return the folder of each task or domain. Raises ValueError if two would have the same, ignoring case."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for task in sorted(tasks):
        names[task] = folder_name(task, by)
        other = owners.setdefault(names[task].casefold(), task)
        if other != task:
            raise ValueError(
                f"{by.capitalize()}s {other!r} and {task!r} of the bank would both lie in the folder {names[task]!r}. Rename one of them."
            )
    return names


def write_card(path: Path, members: Mapping[str, Member], by: By = "task", **facts: Any) -> None:
    """Write the bank's `ratchet.json`: its members by task or domain, and the given facts."""
    bank = {"by": by, "members": {task: asdict(member) for task, member in members.items()}}
    checkpoints.write_card(path, bank=bank, **facts)


def members(path: Path) -> dict[str, Member]:
    """Return the members of a bank, by task or domain."""
    return {task: Member(**facts) for task, facts in checkpoints.read_card(path)["bank"]["members"].items()}


def read_tensors(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tensors of each member of a bank, by task or domain, and by their names in its file."""
    return {name: checkpoints.read_adapter(path / member.folder) for name, member in members(path).items()}


def check(path: Path, base: Path, mixed_by: str = "") -> dict[str, Path]:
    """Return the folder of each member, by task or domain.

    Raises ValueError for a member that is missing, whose weights differ from the bank's card, that was trained on another base than the one in
    `base`, or that is not a mergeable adapter. With `mixed_by`, the method that mixes members, it also raises for a member of another method.
    """
    parent, folders, by = checkpoints.weights_digest(base), {}, checkpoints.read_card(path)["bank"]["by"]
    for task, member in members(path).items():
        folder = path / member.folder
        if not checkpoints.is_adapter(folder):
            raise ValueError(
                f"{folder} holds no adapter, and {path} is a bank with one for {by} {task!r}. Train it again."
            )
        if (digest := checkpoints.weights_digest(folder)) != member.weights:
            raise ValueError(
                f"{folder} holds weights {digest[:12]}, and the card of bank {path} says {member.weights[:12]}."
            )
        card = checkpoints.read_card(folder)
        if card.get("parent") != parent:
            raise ValueError(
                f"{folder} was trained on weights {str(card.get('parent'))[:12]}, but the base of the bank, {base}, holds {parent[:12]}. "
                "All adapters of a bank have one base: train this one again on it."
            )
        adapter = card.get("method", {}).get("adapter", "none")
        if mixed_by and adapter != mixed_by:
            raise ValueError(
                f"{folder} is an adapter of method {adapter}, and adapter {mixed_by!r} mixes its own alone. "
                f"Set pretrain.adapter: {mixed_by}."
            )
        if not mixed_by and (reason := unfit(adapter)):
            raise ValueError(f"{folder} cannot be in a bank: {reason}.")
        folders[task] = folder
    return folders


def served_name(member: Member) -> str:
    """Return the name under which a member is served. Like that of any model without a version, it comes from its folder and its weights."""
    return f"{member.folder}@{member.weights[:8]}"


def unfit(adapter: str) -> str:
    """Return the reason why an adapter of this method cannot be in a bank, whose base all members share; empty if it can."""
    spec = methods.spec("adapters", adapter)
    if adapter == "none":
        return "without an adapter the base itself changes, on which its other members are based"
    if spec.narrows:
        return f"adapter {adapter!r} makes the base narrower, on which its other members are based"
    if not spec.merges:
        return f"adapter {adapter!r} does not merge, so that no plain model is the same as base and member"
    return ""
