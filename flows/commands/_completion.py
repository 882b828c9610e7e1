"""Complete values in the shell. They are read from file names and from params.yaml alone, so that completion is immediate."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MODELS = ("base", "champion")
RECORDS = ("candidate", "champion")


def profiles(incomplete: str) -> list[str]:
    """Return the profiles of params/."""
    return _beginning(incomplete, (path.stem for path in Path("params").glob("*.yaml")))


def stages(incomplete: str) -> list[str]:
    """Return the stages of dvc.yaml, `tune`, and their items, `tune@r0`."""
    from flows.execution.dvc import graph_file

    return _beginning(incomplete, graph_file.stage_names())


def method_names(incomplete: str) -> list[str]:
    """Return the methods and their families."""
    return _beginning(incomplete, [*_families(), *(name for names in _families().values() for name in names)])


def decoders(incomplete: str) -> list[str]:
    """Return the methods by which small models steer a large one."""
    return _beginning(incomplete, _families()["decoders"])


def compositions(incomplete: str) -> list[str]:
    """Return the recipes of params/compare, and the methods."""
    recipes = [path.stem for path in Path("params/compare").glob("*.yaml")]
    return _beginning(incomplete, [*recipes, *(name for names in _families().values() for name in names)])


def settings(incomplete: str) -> list[str]:
    """Return the settings of trainings that params.yaml names, ready for values."""
    from tasks.core.nested import flat

    sections = {name: _params().get(name) or {} for name in ("methods", "pretrain", "tune")}
    return _beginning(incomplete, (f"{setting}=" for setting, _ in flat(sections)))


def measured_models(incomplete: str) -> list[str]:
    """Return the entries of `models` in params.yaml."""
    return _beginning(incomplete, _params().get("models") or ())


def comparable_models(incomplete: str) -> list[str]:
    """Return the models that a report can compare: entries of `models`, and versions."""
    return [*measured_models(incomplete), *versions(incomplete)]


def models(incomplete: str) -> list[str]:
    """Return the models that can be talked to: the base, the champion and the rounds."""
    return _beginning(incomplete, [*MODELS, *(_params().get("rounds") or ())])


def turns(incomplete: str) -> list[str]:
    """Return the rounds that a turn makes."""
    return _beginning(incomplete, _params().get("turns") or ())


def versions(incomplete: str) -> list[str]:
    """Return the versions of models that are kept, and `candidate` and `champion`."""
    kept = (path.name for path in Path("models/versions").glob("*") if path.name.isdecimal())
    return _beginning(incomplete, [*RECORDS, *kept])


def _beginning(incomplete: str, names: Iterable[Any]) -> list[str]:
    return sorted({str(name) for name in names if str(name).startswith(incomplete)})


def _families() -> dict[str, list[str]]:
    """Return the methods of each family, read from the names of folders without importing anything."""
    root = Path(__file__).parents[2] / "tasks/methods"
    return {
        family.name: [path.parent.name for path in family.glob("*/config.py")]
        for family in root.iterdir()
        if (family / "__init__.py").is_file()
    }


def _params() -> dict[str, Any]:
    from flows.execution.dvc import graph_file

    return graph_file.read(Path("params.yaml"))
