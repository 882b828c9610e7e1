"""The installed packages: the environment lock, and the licences of what a model was made with."""

import re
from dataclasses import dataclass
from importlib import metadata

from tasks.io.system import packages


@dataclass(frozen=True)
class InstalledPackage:
    """A distribution of this environment."""

    name: str
    """As PyPI compares names: lower case, with hyphens."""
    version: str
    license: str
    """As its metadata say, an SPDX expression where that is one; `unknown` without."""


def installed() -> list[InstalledPackage]:
    """Return the installed distributions by name; of several with one name that which is imported."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name:
            versions.setdefault(name, distribution.version)
    return [InstalledPackage(name, versions[name], packages.license_of(name)) for name in sorted(versions)]


def requirements(installed_packages: list[InstalledPackage]) -> str:
    """Return the environment lock, which `pip install -r` reads: exact versions, and no address that one came from."""
    return "".join(f"{package.name}=={package.version}\n" for package in installed_packages)
