"""Edit params.yaml by a command, and keep its comments and other settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import settings
from tasks.io import files
from tasks.io import params as config_file


@contextmanager
def edited_config(params: Path) -> Iterator[Any]:
    """Yield the tree of a settings file, and write it at the end.

    Raises ValueError, and leaves the file as it was, if the tree is then no valid config.
    """
    from ruamel.yaml import YAML

    config_file.parse(params)  # its message is better than ruamel's if the file is no YAML
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    tree = yaml.load(params)
    yield tree
    with files.atomic_path(params) as edited:
        with edited.open("w", encoding="utf-8") as file:
            yaml.dump(tree, file)
        settings.load(edited)
