"""Set the number of rounds: write the maps `rounds`, `turns` and `models` of params.yaml."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.project import config_editing
from tasks import configuration

ROUND = re.compile(r"r\d+")


def write_rounds(number: int, params: Path) -> None:
    """Write `number` rounds to a settings file, keeping its comments and other settings.

    Models that belong to no round stay. If no model belongs to a round, as in a profile without measurements, none is added.
    """
    from ruamel.yaml.comments import CommentedMap

    def inline(**values: str) -> Any:
        entry = CommentedMap(values)
        entry.fa.set_flow_style()
        return entry

    names = configuration.names_of_rounds(number)
    turns = configuration.turns_between(names)
    with config_editing.edited_config(params) as tree:
        _fit(tree.setdefault("rounds", CommentedMap()), {name: inline() for name in names})
        tree["turns"] = (
            CommentedMap({name: inline(prev=turn.prev) for name, turn in turns.items()}) if turns else inline()
        )
        if any(map(ROUND.fullmatch, tree.get("models", ()))):
            _fit(tree["models"], {name: inline(**model_entry(name)) for name in names})


def model_entry(name: str) -> dict[str, str]:
    """Return the entry of a round in the `models` map, by which `evaluate` finds the model."""
    return {"group": "rounds", "path": f"models/tuned/{name}", "base": "models/pretrained"}


def _fit(tree: Any, entries: Mapping[str, Any]) -> None:
    """Remove the rounds of a map that are not in `entries`, and add the missing ones after the others."""
    for name in [name for name in tree if ROUND.fullmatch(name) and name not in entries]:
        del tree[name]
    place = max((at for at, name in enumerate(tree) if name in entries), default=len(tree) - 1) + 1
    for name in reversed([name for name in entries if name not in tree]):
        tree.insert(place, name, entries[name])
