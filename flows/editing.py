"""Edits of params.yaml by a command: its comments and other settings stay."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import settings
from tasks.io import params as checked


@contextmanager
def edited(params: Path) -> Iterator[Any]:
    """The tree of a settings file. What is changed in it within is written at the end.

    Raises ValueError, and leaves the file as it was, where that would not be valid settings.
    """
    from ruamel.yaml import YAML

    checked.parse(params)  # it says in words of its own what is no YAML
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(params)
    yield tree
    partial = params.with_name(params.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)
    try:
        settings.load(partial)
    except ValueError:
        partial.unlink()
        raise
    partial.replace(params)
