"""Version, files and licence of installed packages, read without importing them."""

from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def version(name: str, key: str) -> str:
    """Return the installed version of a distribution. Raises ValueError naming the params key and the command that installs it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise ValueError(f"{key}: the package {name!r} is not installed. `pip install {name}` would do.") from None


def files(name: str, key: str) -> list[Path]:
    """Return the files of an installed distribution."""
    version(name, key)
    return sorted(Path(str(file.locate())) for file in metadata.files(name) or [])


def with_requirements(name: str) -> list[metadata.Distribution]:
    """Return an installed distribution and those that it requires. Optional ones may be absent."""
    distributions: dict[str, metadata.Distribution] = {}
    waiting = [name]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in distributions:
            continue
        try:
            distributions[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        requirements = map(Requirement, distributions[name].requires or ())
        waiting += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return list(distributions.values())


def license_of(name: str) -> str:
    """Return the licence in a distribution's metadata, or `unknown`."""
    facts: Any = metadata.metadata(name)
    if expression := facts.get("License-Expression"):
        return str(expression)
    classified = [
        line.split("::")[-1].strip() for line in facts.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    stated = (facts.get("License") or "").strip().splitlines()
    return ", ".join(classified) or (stated[0] if stated else "unknown")
