"""Read the names of stages from dvc.yaml without DVC, whose import takes a second."""

import re
from pathlib import Path
from typing import Any

import yaml

PATH, PARAMS = Path("dvc.yaml"), Path("params.yaml")
VARIABLE = re.compile(r"\$\{(?P<name>[\w.]+)\}")


def stage_names() -> list[str]:
    """Return the stages in the order of the file: each `foreach` group's own name, followed by its stages."""
    stages = read(PATH).get("stages")
    names = []
    for name, entry in stages.items() if isinstance(stages, dict) else ():
        items = entry.get("foreach") if isinstance(entry, dict) else None
        names += [name, *(f"{name}@{item}" for item in _resolved(items))]
    return names


def read(path: Path) -> dict[str, Any]:
    """Return the mapping of a YAML file; an empty one if the file is missing or holds no mapping."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _resolved(items: Any) -> list[str]:
    """Return the items of a `foreach`: the keys of a map or the entries of a list, given directly or by the setting that `${…}` names."""
    if isinstance(items, str) and (variable := VARIABLE.fullmatch(items)):
        items = read(PARAMS)
        for key in variable["name"].split("."):
            items = items.get(key) if isinstance(items, dict) else None
    return [str(item) for item in items] if isinstance(items, dict | list) else []
