"""Add a model to the map `models` of params.yaml, so that `evaluate` measures it and `report` compares it with the reference."""

from pathlib import Path

from flows.project import config_editing
from flows.project.rounds import ROUND
from tasks import configuration

GROUP = "merged"
"""The folder of its metrics."""


def check_name(name: str, params: Path) -> None:
    """Raise ValueError for a name that a model in the settings file has or a round may have, and for one that is not a valid file name."""
    if name in (known := configuration.load(params).models):
        raise ValueError(f"{params} has a model {name!r} already. There are: {', '.join(known)}.")
    if ROUND.fullmatch(name) or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{name!r} names a round, or no file: take letters, digits, - and _.")


def add(name: str, folder: Path, params: Path) -> None:
    """Add a whole model to a settings file, keeping its comments and other settings."""
    from ruamel.yaml.comments import CommentedMap

    entry = CommentedMap({"group": GROUP, "path": folder.as_posix(), "base": folder.as_posix()})
    entry.fa.set_flow_style()
    with config_editing.edited_config(params) as tree:
        tree.setdefault("models", CommentedMap())[name] = entry
