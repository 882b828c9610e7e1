"""Edit params.yaml by a command, and keep its comments and other settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.io import config_file
from tasks.io.system import files


@contextmanager
def edited_config(path: Path, start: Path | None = None) -> Iterator[Any]:
    """Yield the tree of params.yaml or a profile, or of the settings `start` in their place, and write it at the end.

    Raises ValueError, and leaves the file as it was, if the tree is then no valid config.
    """
    from ruamel.yaml import YAML

    config_file.parse(start or path)  # its message is better than ruamel's if the file is no YAML
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(start or path)
    yield tree
    with files.atomic_path(path) as edited:
        with edited.open("w", encoding="utf-8") as file:
            yaml.dump(tree, file)
        configuration.load(edited)
