"""The methods: a family is a folder, a method is a file in it, and its name is the file's name."""

import difflib
import importlib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent


def families() -> list[str]:
    """The families, by folder name."""
    return sorted(folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file())


def names(family: str) -> list[str]:
    """The methods of a family, found without importing any."""
    found = [path for path in (ROOT / family).iterdir() if not path.name.startswith("_")]
    return sorted(path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").is_file())


def load(family: str, name: str) -> ModuleType:
    """The module of a method; its record is `METHOD`. Raises ValueError with near matches for an unknown name."""
    known = names(family)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
        raise ValueError(f"{family} has no method {name!r}. {hint}")
    return importlib.import_module(f"tasks.methods.{family}.{name}")


def family_of(name: str) -> str | None:
    """The family that holds the method `name`; names are unique among those with settings."""
    return next((family for family in families() if name in names(family)), None)
