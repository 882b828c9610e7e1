"""Banks on disk: a folder with one adapter a task, all of one base, each in a folder of its own, and `ratchet.json` that names them."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import methods
from tasks.io.weights import checkpoints

LONGEST = 80
"""Characters of a member's folder."""
CENTROID = "centroid.npy"
"""In a member's folder: mean and variance of the base's mean hidden states in some layers on prompts of its task, (2, L, H)."""


@dataclass(frozen=True)
class Member:
    """An adapter of a bank."""

    folder: str
    """Its folder in the bank."""
    weights: str
    """The hash of its weights."""
    examples: int
    """Examples that it was trained on."""


def folder_name(task: str) -> str:
    """Return the folder of a task's adapter: its name, in which all but letters, digits, `.`, `_` and `-` became `-`, without a `.` at the
    beginning.

    Raises ValueError for a name of which nothing is left, and one that is too long.
    """
    name = re.sub(r"[^\w.-]", "-", unicodedata.normalize("NFC", task))
    name = f"-{name[1:]}" if name.startswith(".") else name
    if not re.search(r"\w", name):
        raise ValueError(
            f"tune.bank: task {task!r} has no letter or digit, by which its folder could be named. Rename it."
        )
    if len(name) > LONGEST:
        raise ValueError(f"tune.bank: the name of task {name[:20]}… has more than {LONGEST} characters. Rename it.")
    return name


def folder_names(tasks: Iterable[str]) -> dict[str, str]:
    """Return the folder of each task. Raises ValueError where two tasks would have one, capitals taken as small letters."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for task in sorted(tasks):
        names[task] = folder_name(task)
        other = owners.setdefault(names[task].casefold(), task)
        if other != task:
            raise ValueError(
                f"tune.bank: tasks {other!r} and {task!r} would both lie in the folder {names[task]!r}. Rename one of them."
            )
    return names


def write_card(path: Path, members: Mapping[str, Member], **facts: Any) -> None:
    """Write the bank's `ratchet.json`: its members by task, and the given facts."""
    bank = {"by": "task", "members": {task: asdict(member) for task, member in members.items()}}
    checkpoints.write_card(path, bank=bank, **facts)


def members(path: Path) -> dict[str, Member]:
    """Return the members of a bank, by task."""
    return {task: Member(**facts) for task, facts in checkpoints.read_card(path)["bank"]["members"].items()}


def check(path: Path, base: Path) -> dict[str, Path]:
    """Return the folder of each member, by task.

    Raises ValueError for a member that is missing, has other weights than the bank's card says, is no adapter that merges, or was trained
    on another base than the one in `base`.
    """
    parent, folders = checkpoints.weights_digest(base), {}
    for task, member in members(path).items():
        folder = path / member.folder
        if not checkpoints.is_adapter(folder):
            raise ValueError(
                f"{folder} holds no adapter, and {path} is a bank with one for task {task!r}. Train it again."
            )
        if (digest := checkpoints.weights_digest(folder)) != member.weights:
            raise ValueError(
                f"{folder} holds weights {digest[:12]}, and the card of bank {path} says {member.weights[:12]}."
            )
        card = checkpoints.read_card(folder)
        if card.get("parent") != parent:
            raise ValueError(
                f"{folder} was trained on weights {str(card.get('parent'))[:12]}, but the base of the bank, {base}, holds {parent[:12]}. "
                "All adapters of a bank stand on one base: train it again on this one."
            )
        if reason := unfit(card.get("method", {}).get("adapter", "none")):
            raise ValueError(f"{folder} cannot be in a bank: {reason}.")
        folders[task] = folder
    return folders


def served_name(member: Member) -> str:
    """Return the name by which a member is served: of its folder and its weights, as of any model that is no version."""
    return f"{member.folder}@{member.weights[:8]}"


def unfit(adapter: str) -> str:
    """Return the reason why an adapter of this method cannot be in a bank, whose base all members share; empty if it can."""
    spec = methods.spec("adapters", adapter)
    if adapter == "none":
        return "without an adapter the base itself changes, which its other members stand on"
    if spec.narrows:
        return f"adapter {adapter!r} makes the base narrower, which its other members stand on"
    if not spec.merges:
        return f"adapter {adapter!r} does not merge, so that no plain model is the same as base and member"
    return ""
